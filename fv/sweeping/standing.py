"""How far a run is, told by its workdir alone: what training and evaluation left there, and whether it is of these flags."""

import dataclasses
import os

from fv import cli, files, manifest, workdir
from fv import options as fv_options
from fv.errors import UserError
from fv.evaluation.options import EvaluateOptions
from fv.sweeping.plan import EVALUATION, Run
from fv.training.options import TrainOptions

_PLACES = (
    "workdir",
    "tfrecords",
)  # the shards are compared by their manifest, so that folders may move


@dataclasses.dataclass(frozen=True)
class Standing:
    """How far a run is.

    Attributes:
      changed: what is not as the run in the workdir was begun, None where all is.
      trained: whether training is finished.
      metrics: what the evaluation wrote, None where there is none by these flags of this training.
    """

    changed: str | None
    trained: bool
    metrics: dict | None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.metrics is not None


def look(run: Run) -> Standing:
    """Reads a run's workdir, which need not be there."""
    changed = _changed(run)
    trained = changed is None and _trained(run)
    return Standing(changed, trained, _metrics(run) if trained else None)


def _changed(run: Run) -> str | None:
    begun = _flags(TrainOptions, os.path.join(run.workdir, workdir.FLAGS))
    if begun is None:
        return None
    if isinstance(begun, str):
        return begun
    was, now = _leaves(begun), _leaves(run.training)
    for name in was:
        if name not in _PLACES and was[name] != now[name]:
            return f"--{name} was {was[name]} and is {now[name]}"
    trained_on, path = (
        _last_start(run).get("manifest_sha256"),
        os.path.join(run.training.tfrecords, manifest.FILE_NAME),
    )
    if trained_on and files.exists(path) and files.sha256(path) != trained_on:
        return f"the shards in {run.training.tfrecords} are others"
    return None


def _trained(run: Run) -> bool:
    ended = _last_start(run).get("ended") or {}
    return ended.get("reason") == "finished" and ended.get("step", 0) >= run.training.steps


def _metrics(run: Run) -> dict | None:
    """The evaluation writes its flags after its figures, so flags that are there vouch for figures."""
    folder = os.path.join(run.workdir, EVALUATION)
    begun = _flags(EvaluateOptions, os.path.join(folder, workdir.EVALUATE_FLAGS))
    path = os.path.join(folder, workdir.METRICS)
    here = {"workdir": run.evaluation.workdir, "output": run.evaluation.output}
    if (
        not isinstance(begun, EvaluateOptions)
        or dataclasses.replace(begun, **here) != run.evaluation
    ):
        return None
    if os.path.basename(begun.workdir) != os.path.basename(
        run.evaluation.workdir
    ):  # only one of them is whitened
        return None
    try:
        return files.load_json(path) if files.exists(path) else None
    except UserError:  # cut short, or of an older fv that wrote NaN: it is evaluated again
        return None


def _last_start(run: Run) -> dict:
    return next(reversed(workdir.starts(run.workdir)), {})


def _flags(cls: type, path: str) -> TrainOptions | EvaluateOptions | str | None:
    """The options in a flagfile that a run left, None where there is none, a message where this fv cannot read it."""
    if not files.exists(path):
        return None
    try:
        values, _ = cli.parse(cls, ["", f"--flagfile={path}"])
        return fv_options.from_flags(cls, values)
    except UserError as error:
        return f"{path} is of another fv: {error}"


def _leaves(options: TrainOptions) -> dict[str, object]:
    """Every option by its flag's name; those that are not given are None."""
    leaves = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        leaves |= _leaves(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return leaves

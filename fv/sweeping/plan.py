"""The runs of a sweep: each variant with each seed, its flags checked before anything is trained."""

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence

from fv import cli
from fv import options as fv_options
from fv.errors import UserError
from fv.evaluation.options import EvaluateOptions
from fv.sweeping import variants as sweep_variants
from fv.sweeping.options import SweepOptions
from fv.sweeping.variants import Variant
from fv.training.options import TrainOptions

EVALUATION, WHITENED = "evaluation", "whitened"  # folders in a run's workdir
SEED = "{seed}"  # in flags of training, the run's seed stands in its place
_OURS = ("seed", "workdir")  # flags of training that the sweep gives


@dataclasses.dataclass(frozen=True)
class Run:
    """One variant with one seed.

    Attributes:
      variant: its name.
      seed: of training.
      training: what the command's flags resolve to.
      evaluation: likewise.
      train_command: the command line, the interpreter first.
      evaluate_command: likewise.
      whiten_command: likewise, between the two; None where the model is evaluated as it is.
    """

    variant: str
    seed: int
    training: TrainOptions
    evaluation: EvaluateOptions
    train_command: tuple[str, ...]
    evaluate_command: tuple[str, ...]
    whiten_command: tuple[str, ...] | None = None

    @property
    def workdir(self) -> str:
        """Folder of the training run; its evaluation is in it."""
        return self.training.workdir

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.seed}"


def plan(options: SweepOptions) -> list[Run]:
    """All runs of a sweep, the first seed of every variant before the second: stopped anywhere, the table is balanced.

    Raises:
      UserError: flags are wrong, are the sweep's own, or make two variants the same.
    """
    shared = _split(options.train_flags, "--train_flags")
    evaluating = _split(options.evaluate_flags, "--evaluate_flags")
    variants = sweep_variants.read(options.variants)
    for flags, origin in [
        (shared, "--train_flags"),
        *((variant.flags, variant.origin) for variant in variants),
    ]:
        _check_none_is_ours(flags, origin)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    runs = [
        _run(options, variant, seed, shared, evaluating) for seed in seeds for variant in variants
    ]
    _check_distinct(runs, variants)
    return runs


def _run(
    options: SweepOptions,
    variant: Variant,
    seed: int,
    shared: Sequence[str],
    evaluating: Sequence[str],
) -> Run:
    workdir = os.path.join(options.output, variant.name, f"seed_{seed}")
    given = [
        flag.replace(SEED, str(seed))
        for flag in (*shared, f"--tfrecords={options.tfrecords}", *variant.flags)
    ]
    flags = [*given, f"--workdir={workdir}", f"--seed={seed}"]
    training = _resolve(TrainOptions, flags, variant.origin if variant.flags else "--train_flags")
    scored = os.path.join(workdir, WHITENED) if options.whiten else workdir
    scoring = [*evaluating, f"--workdir={scored}", f"--output={os.path.join(workdir, EVALUATION)}"]
    evaluation = _resolve(EvaluateOptions, scoring, "--evaluate_flags")
    if not (evaluation.tfrecords or evaluation.pairs_list):
        scoring = [f"--tfrecords={options.tfrecords}", *scoring]
        evaluation = _resolve(EvaluateOptions, scoring, "--evaluate_flags")
    evaluation.check()
    commands = _command("fv.train", flags), _command("fv.evaluate", scoring)
    whitening = [f"--workdir={workdir}", f"--tfrecords={training.tfrecords}", f"--output={scored}"]
    return Run(
        variant.name,
        seed,
        training,
        evaluation,
        *commands,
        _command("fv.whiten", whitening) if options.whiten else None,
    )


def _command(module: str, flags: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *flags)


def _resolve(cls: type, flags: Sequence[str], origin: str) -> TrainOptions | EvaluateOptions:
    try:
        values, rest = cli.parse(cls, ["", *flags])
    except UserError as error:
        raise UserError(f"{origin}: {error}") from error
    if rest:
        raise UserError(f"{origin}: '{rest[0]}' is no flag: write --name=value")
    return fv_options.from_flags(cls, values)


def _split(flags: str, origin: str) -> list[str]:
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise UserError(f"{origin}={flags}: {error}") from error


def _check_none_is_ours(flags: Sequence[str], origin: str) -> None:
    for flag in flags:
        name = flag.lstrip("-").partition("=")[0]
        if name in _OURS:
            raise UserError(
                f"{origin}: --{name} is given by the sweep (--seeds, --first_seed, --output): leave it out"
            )


def _check_distinct(runs: Sequence[Run], variants: Sequence[Variant]) -> None:
    """The first runs are one of each variant."""
    seen: dict[str, Variant] = {}
    for run, variant in zip(runs, variants, strict=False):
        resolved = fv_options.to_flagfile(dataclasses.replace(run.training, workdir=""))
        if resolved in seen:
            raise UserError(
                f"{variant.origin}: '{variant.name}' trains as '{seen[resolved].name}' does: leave one out"
            )
        seen[resolved] = variant

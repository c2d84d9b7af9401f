"""Sweeps whose children are scripts: they leave in a workdir what fv.train and fv.evaluate leave, in milliseconds."""

import dataclasses
import pathlib
import sys

from fv import options as fv_options
from fv.sweeping import plan
from fv.sweeping.options import SweepOptions
from fv.sweeping.plan import Run

VARIANTS = """
# two of them
plain:
cutout: --cutout=0.3   # a square
"""

TRAIN = """
import json, pathlib, sys
folder, flags, steps = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
(folder / "train.flags").write_text(flags)
(folder / "run.json").write_text(json.dumps({"starts": [{"ended": {"reason": "finished", "step": steps}}]}))
with open(folder / "trained", "a") as file:
    file.write("once ")
"""

EVALUATE = """
import json, pathlib, sys
folder, flags, accuracy = pathlib.Path(sys.argv[1]) / "evaluation", sys.argv[2], float(sys.argv[3])
folder.mkdir(exist_ok=True)
tar = {"0.1": {"tar": accuracy - 0.1}, "0.0001": {"tar": None}}
figures = dict(accuracy=accuracy, auc=accuracy, eer=1 - accuracy, tar_at_far=tar, split="test", pairs=200, pairs_sha256="ab")
(folder / "metrics.json").write_text(json.dumps(figures))
(folder / "evaluate.flags").write_text(flags)
"""


def options(folder: pathlib.Path, **changes) -> SweepOptions:
    """Two variants with two seeds each."""
    path = folder / "two.variants"
    path.write_text(VARIANTS)
    given = dict(
        tfrecords="shards",
        output=str(folder / "sweep"),
        variants=str(path),
        seeds=2,
        train_flags="--steps=30",
    )
    return SweepOptions(**(given | changes))


WHITEN = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "model.json").write_text("{}")
"""


def stand_in(run: Run, accuracy: float = 0.8, train: str = TRAIN) -> Run:
    """The run with scripts for its commands."""
    trained, evaluated = (
        fv_options.to_flagfile(run.training),
        fv_options.to_flagfile(run.evaluation),
    )
    whiten = (
        (sys.executable, "-S", "-c", WHITEN, run.evaluation.workdir) if run.whiten_command else None
    )
    return dataclasses.replace(
        run,
        train_command=(
            sys.executable,
            "-S",
            "-c",
            train,
            run.workdir,
            trained,
            str(run.training.steps),
        ),
        evaluate_command=(
            sys.executable,
            "-S",
            "-c",
            EVALUATE,
            run.workdir,
            evaluated,
            str(accuracy),
        ),
        whiten_command=whiten,
    )


def replace_plan(monkeypatch, change) -> None:
    """Lets the sweep plan runs that `change` makes of its own."""
    original = plan.plan
    monkeypatch.setattr(plan, "plan", lambda chosen: [change(run) for run in original(chosen)])

"""What a sweep is told."""

import dataclasses

from fv.options import option, required


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Which runs, and where they go."""

    tfrecords: str = required("folder of shards that every run trains on.")
    output: str = required(
        "folder for the runs, sweep.json and sweep.md; a sweep that was stopped there goes on."
    )
    train_flags: str = option(
        "",
        "Flags of fv.train for every run, as on its command line: '--flagfile=configs/lfw.flags --steps=500'; {seed} in "
        "them and in variants is the run's seed, as in --teacher=runs/light/baseline/seed_{seed}.",
    )
    variants: str | None = option(
        None,
        "Text file of the variants, 'name: --flag=… --flag=…' on a line, the baseline first; one run a seed without it.",
    )
    seeds: int = option(3, "Seeds of each variant.", lower=1)
    first_seed: int = option(0, "The first of them; the others follow.", lower=0)
    evaluate_flags: str = option(
        "",
        "Flags of fv.evaluate for every run; it scores the test split of --tfrecords unless they name other pairs.",
    )
    whiten: bool = option(
        False,
        "Whiten every model (fv.whiten) into the folder 'whitened' of its workdir, and evaluate that.",
    )
    only: str = option(
        "",
        "Run these variants only, names separated by commas; the table holds all that is finished.",
    )
    rerun_changed: bool = option(
        False,
        "Repeat the runs whose flags or shards have changed since; what they left moves to OUTPUT/earlier/.",
    )
    report_only: bool = option(False, "Run nothing: write the table of what is finished.")

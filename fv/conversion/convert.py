"""The whole conversion, from a folder of images to shards, their manifest and a report."""

import contextlib
import importlib.util
import os
import shlex
from collections.abc import Callable, Iterator

import pandas as pd

from fv import errors, files, manifest, options, ownership, progress, record, tables, workers
from fv.conversion import datasets, output, report_page, selection, shards
from fv.conversion import options as options_module
from fv.conversion.options import LOCAL, ConvertOptions
from fv.errors import TemporaryError, UserError
from fv.preprocessing import Preprocessing

# Where a conversion's tasks run: processes of this machine, or workers of an Apache Beam runner.

_PRELOADED = ("fv.conversion.checking", "fv.conversion.shards")


@contextlib.contextmanager
def start_runner(chosen: ConvertOptions, scratch: str) -> Iterator[workers.Map]:
    """Gives a function that maps a module's function over tasks and yields the results in order.

    Args:
      chosen: the options.
      scratch: a folder that every worker of a Beam runner can read and write.

    Raises:
      UserError: a Beam runner is asked for and Beam is not installed.
    """
    if chosen.runner == LOCAL:
        with workers.pool(chosen.processes, _PRELOADED) as run:
            yield run
        return
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            f"--runner={chosen.runner} needs Apache Beam: pip install 'fv[beam]', or take --runner={LOCAL}"
        )
    from fv.conversion import beam

    yield beam.Runner(chosen.runner, shlex.split(chosen.runner_options), scratch).map


Reselect = Callable[
    [selection.Selection, str], selection.Selection
]  # (what was selected, scratch folder) → what is written


def convert(
    chosen: options_module.ConvertOptions, reselect: Reselect | None = None
) -> tuple[manifest.Manifest, pd.DataFrame]:
    """Converts a folder of images. An earlier data set stays until the new one's pairs are known.

    Args:
      chosen: the options.
      reselect: changes the pairs before they are written.

    Returns:
      The manifest, and the images left out, with columns `path` and `reason`.

    Raises:
      UserError: the input or the options cannot be used, or the disk is full; what is whole stays for the next run.
      TemporaryError: an image or a shard could not be read or written, and this may pass.
    """
    options_module.require_consistent(chosen)
    level, merge = chosen.naming
    found = datasets.scan_folder(chosen.images, level, merge)
    datasets.require_identities(
        found.images, found.unusable, chosen.images, found.passed_over, level
    )
    with output.claim_output(chosen.output, chosen.overwrite) as scratch:
        try:
            with start_runner(chosen, scratch) as run:
                return _convert(chosen, found, scratch, run, reselect)
        except UnfinishedError as error:  # told when the last worker has ended, so that the count of whole shards is true
            kind = TemporaryError if errors.is_temporary(error.cause) else UserError
            raise kind(_what_is_whole(error, chosen)) from error


class UnfinishedError(Exception):
    """Not all of `total` shards could be written: `cause`, an OSError, came in between."""

    def __init__(self, cause: OSError, total: int):
        super().__init__(str(cause))
        self.cause, self.total = cause, total


def write_shards(
    chosen: options_module.ConvertOptions,
    selected: selection.Selection,
    counts: dict[str, int],
    scratch: str,
    run: workers.Map,
) -> dict[str, list[manifest.Shard]]:
    """Writes every split's shards but those that an earlier run left whole.

    Args:
      chosen: the options; `output` has to be cleared.
      selected: images and pairs.
      counts: number of shards of each split.
      scratch: folder of the images that were written anew.
      run: maps a function over tasks.

    Returns:
      What was written, by split.

    Raises:
      UnfinishedError: an image or a shard could not be read or written.
    """
    folders = (chosen.images, scratch, chosen.output)
    tasks = (
        task
        for split, table in selected.tables.items()
        for task in shards.plan_split(
            split, table, selected.images, counts[split], chosen.seed, folders
        )
    )
    done = []
    with progress.progress(
        sum(len(table) for table in selected.tables.values()), "write", "pair"
    ) as bar:
        try:
            for shard in run(shards.write_shard, tasks):
                done.append(shard)
                bar.update(shard.records)
        except OSError as error:
            raise UnfinishedError(error, sum(counts.values())) from error
    made = iter(done)
    return {split: [next(made) for _ in range(counts[split])] for split in selected.tables}


def _convert(
    chosen: options_module.ConvertOptions,
    found: datasets.Catalog,
    scratch: str,
    run: workers.Map,
    reselect: Reselect | None,
) -> tuple[manifest.Manifest, pd.DataFrame]:
    preprocessing = options_module.preprocessing_of(
        chosen
    )  # before the images: the CSV of boxes may change while they are read
    selected = selection.select(chosen, found.images, found.unusable, scratch, run)
    if reselect:
        selected = reselect(selected, scratch)
    counts = shards.count_shards(selected.tables, selected.images, chosen.shards)
    output.clear_output(chosen.output, keep=[] if chosen.overwrite else _names(counts))
    _save_left_out(selected.left_out, chosen.output)
    made = _describe(
        chosen, selected, write_shards(chosen, selected, counts, scratch, run), preprocessing
    )
    report_page.write_reports(chosen, found, selected, made, scratch)
    manifest.save(made, chosen.output)
    output.forget_shards(chosen.output)
    return made, selected.left_out


def _names(counts: dict[str, int]) -> list[str]:
    return [
        manifest.shard_name(split, index, count)
        for split, count in counts.items()
        for index in range(count)
    ]


def _what_is_whole(error: UnfinishedError, chosen: options_module.ConvertOptions) -> str:
    reason = f"{error.cause.strerror}: {error.cause.filename}"
    if not files.is_folder(chosen.images):
        reason = f"--images={chosen.images} has vanished"
    whole = (
        f"{output.count_noted(chosen.output)} of {error.total} shards are whole in {chosen.output}"
    )
    return f"{reason}; {whole}, and the same command (without --overwrite) goes on from there once that is mended"


def _describe(
    chosen: options_module.ConvertOptions,
    selected: selection.Selection,
    made: dict[str, list[manifest.Shard]],
    preprocessing: Preprocessing,
) -> manifest.Manifest:
    described = {}
    for split, table in selected.tables.items():
        genuine = int((table["label"] == record.GENUINE).sum())
        described[split] = manifest.Split(
            genuine=genuine,
            impostor=len(table) - genuine,
            images=len(pd.unique(table[["a", "b"]].to_numpy().ravel())),
            identities=selected.identities[split],
            shards=tuple(made[split]),
        )
    flags, side = options.to_flagfile(chosen), _image_side(selected)
    return manifest.Manifest(chosen.seed, flags, described, side, preprocessing=preprocessing)


def _image_side(selected: selection.Selection) -> int | None:
    """The side of every stored image, where all are squares of one size."""
    used = pd.unique(
        pd.concat([table[column] for table in selected.tables.values() for column in ("a", "b")])
    )
    sides = selected.images["side"].loc[used].unique()
    return int(sides[0]) if len(sides) == 1 and sides[0] else None


def _save_left_out(left_out: pd.DataFrame, folder: str) -> None:
    if len(left_out):
        with ownership.staged(folder, [output.LEFT_OUT]) as staging:
            tables.write(os.path.join(staging, output.LEFT_OUT), left_out)

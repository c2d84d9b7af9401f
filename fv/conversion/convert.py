"""The whole conversion, from a folder of images to shards and their manifest."""

import os
from concurrent import futures

import pandas as pd

from fv import files, manifest, options, progress, record, workers
from fv.conversion import catalog, output, selection, settings, shards

_PRELOADED = ("fv.conversion.checking", "fv.conversion.shards")


def convert(chosen: settings.Options) -> tuple[manifest.Manifest, pd.DataFrame]:
    """Converts a folder of images. An earlier data set stays until the new one's pairs are known.

    Args:
      chosen: the options.

    Returns:
      The manifest, and the images left out, with columns `path` and `reason`.

    Raises:
      UserError: the input or the options cannot be used.
    """
    settings.require_consistent(chosen)
    found, odd = catalog.scan(chosen.images)
    catalog.require_identities(found, odd, chosen.images)
    with output.claim(chosen.output, chosen.overwrite) as scratch, workers.pool(chosen.processes, _PRELOADED) as executor:
        selected = selection.select(chosen, found, odd, scratch, executor)
        output.clear(chosen.output)
        _save_left_out(selected.left_out, chosen.output)
        written = write_shards(chosen, selected, scratch, executor)
        made = _describe(chosen, selected, written)
        manifest.save(made, chosen.output)
    return made, selected.left_out


def write_shards(
    chosen: settings.Options, selected: selection.Selection, scratch: str, executor: futures.Executor
) -> dict[str, list[manifest.Shard]]:
    """Writes every split's shards.

    Args:
      chosen: the options; `output` has to exist.
      selected: images and pairs.
      scratch: folder of the images that were written anew.
      executor: pool of `chosen.processes` processes.

    Returns:
      What was written, by split.
    """
    counts = shards.count_shards(selected.tables, selected.images, chosen.shards)
    folders = (chosen.images, scratch, chosen.output)
    tasks = (
        task
        for split, table in selected.tables.items()
        for task in shards.plan_split(split, table, selected.images, counts[split], chosen.seed, folders)
    )
    done = []
    with progress.progress(sum(len(table) for table in selected.tables.values()), "write", "pair") as bar:
        for shard in workers.map_ordered(executor, shards.write_shard, tasks, chosen.processes):
            done.append(shard)
            bar.update(shard.records)
    written = iter(done)
    return {split: [next(written) for _ in range(counts[split])] for split in selected.tables}


def _describe(
    chosen: settings.Options, selected: selection.Selection, written: dict[str, list[manifest.Shard]]
) -> manifest.Manifest:
    described = {}
    for split, table in selected.tables.items():
        genuine = int((table["label"] == record.GENUINE).sum())
        described[split] = manifest.Split(
            genuine=genuine,
            impostor=len(table) - genuine,
            images=len(pd.unique(table[["a", "b"]].to_numpy().ravel())),
            identities=selected.identities[split],
            shards=tuple(written[split]),
        )
    return manifest.Manifest(seed=chosen.seed, flags=options.to_flagfile(chosen), splits=described)


def _save_left_out(left_out: pd.DataFrame, folder: str) -> None:
    if len(left_out):
        with files.atomic_open(os.path.join(folder, output.LEFT_OUT)) as file:
            left_out.to_csv(file, index=False)

"""Converts a data source of images into shards of image pairs, with a manifest and a report.

The steps: list the images, check each of them, choose the pairs, write the shards, then the
reports, and last the manifest, so that a folder with a manifest holds a whole data set.
"""

import contextlib
import dataclasses
import importlib.util
import os
import shlex
from collections.abc import Callable, Iterator

import pandas as pd

from fv import errors, files, manifest, ownership, progress, record, tables, workers
from fv import options as fv_options
from fv.conversion import (
    checking,
    datasets,
    duplicates,
    faces,
    identities,
    pair_checks,
    pair_lists,
    pairs,
    report,
    shards,
    sources,
    storage,
    verification_sets,
)
from fv.conversion import options as options_module
from fv.conversion.datasets import Catalog
from fv.conversion.options import LOCAL, ConvertOptions
from fv.conversion.pairs import Selection
from fv.errors import TemporaryError, UserError
from fv.preprocessing import Preprocessing

_PRELOADED = ("fv.conversion.checking", "fv.conversion.shards")  # once for all workers

Reselect = Callable[[Selection, str], Selection]  # of a selection and the scratch folder


class UnfinishedError(Exception):
    """An OSError, `cause`, ended the run before all of `total` shards were written of `root`."""

    def __init__(self, cause: OSError, total: int, root: str):
        super().__init__(str(cause))
        self.cause, self.total, self.root = cause, total, root


def convert(
    chosen: ConvertOptions, reselect: Reselect | None = None
) -> tuple[manifest.Manifest, pd.DataFrame]:
    """Converts a data source; an earlier data set stays until the new pairs are known.

    `reselect` changes the selection before it is written.

    Returns:
      The manifest, and the images that were left out, with columns `path` and `reason`.

    Raises:
      UserError: the input or the options cannot be used, or the disk is full. Whole shards stay for
        the next run.
      TemporaryError: an image or a shard could not be read or written, and this may pass.
    """
    options_module.require_consistent(chosen)
    is_set = verification_sets.is_verification_set(chosen.images)
    found = verification_sets.load(chosen.images) if is_set else list_images(chosen)
    with (
        shards.claim_output(chosen.output, chosen.overwrite) as scratch,
        _describe_unfinished(chosen),  # after the last worker has ended: it counts whole shards
        start_runner(chosen, scratch) as run,
    ):
        if chosen.faces.detector:
            faces.require_own_file(chosen.output)
        if isinstance(found, Catalog):
            catalog = found._replace(images=sources.unpack(found.images, scratch, run))
            selection = select(chosen, catalog, scratch, run)
        else:
            # The steps below read images from a folder, in several processes.
            catalog = verification_sets.unpack(found, os.path.join(scratch, "images"))
            selection = _select_listed(chosen, catalog, found.pairs(), scratch, run)
        if reselect:
            selection = reselect(selection, scratch)
        made = _write(chosen, catalog, selection, scratch, run)
        return made, selection.left_out


def list_images(chosen: ConvertOptions) -> Catalog:
    """Lists the images of two people or more, without opening an image.

    Raises:
      UserError: there are not as many, or the data source cannot be used.
    """
    level, merge = chosen.identity_level, bool(chosen.merge_names)
    catalog = sources.find_images(chosen.images, chosen.labels, level, merge)
    sources.require_identities(catalog, chosen.images)
    return catalog


@contextlib.contextmanager
def _describe_unfinished(chosen: ConvertOptions) -> Iterator[None]:
    """Makes an UnfinishedError one line that says how many shards are whole."""
    try:
        yield
    except UnfinishedError as error:
        reason = f"{error.cause.strerror}: {error.cause.filename}"
        if not files.exists(error.root):
            reason = f"--images={error.root} has vanished"
        kind = TemporaryError if errors.is_temporary(error.cause) else UserError
        raise kind(
            f"{reason}; {shards.count_noted(chosen.output)} of {error.total} shards are whole in "
            f"{chosen.output}, and the same command (without --overwrite) writes the others once "
            "this is fixed"
        ) from error


def _write(
    chosen: ConvertOptions, catalog: Catalog, selection: Selection, scratch: str, run: workers.Map
) -> manifest.Manifest:
    """Writes everything that the output holds, the manifest last."""
    counts = shards.count_shards(selection.tables, selection.images, chosen.shards)
    names = [manifest.shard_name(split, i, n) for split, n in counts.items() for i in range(n)]
    shards.clear_output(chosen.output, keep=[] if chosen.overwrite else names)
    if len(selection.left_out):
        with ownership.staged(chosen.output, [shards.LEFT_OUT]) as staging:
            tables.write(os.path.join(staging, shards.LEFT_OUT), selection.left_out)
    if chosen.faces.detector and selection.faces:
        faces.save(selection.faces, chosen.output)
    written = write_shards(chosen, selection, counts, scratch, run)
    made = manifest.Manifest(
        chosen.seed,
        fv_options.to_flagfile(chosen),
        {split: _describe_split(selection, split, written[split]) for split in written},
        _image_side(selection),
        preprocessing=selection.preprocessing,
    )
    report.write_reports(chosen, catalog, selection, made, scratch)
    manifest.save(made, chosen.output)
    shards.forget_shards(chosen.output)
    ownership.remove_private(chosen.output, faces.BLOCKS)
    return made


@contextlib.contextmanager
def start_runner(chosen: ConvertOptions, scratch: str) -> Iterator[workers.Map]:
    """Starts what maps functions over tasks: processes of this machine, or a Beam runner.

    Raises:
      UserError: the options name a Beam runner and Beam is not installed.
    """
    if chosen.runner == LOCAL:
        with workers.pool(chosen.processes, _PRELOADED) as run:
            yield run
        return
    if importlib.util.find_spec("apache_beam") is None:
        raise UserError(
            f"--runner={chosen.runner} needs Apache Beam: pip install 'fv[beam]', or give "
            f"--runner={LOCAL}"
        )
    from fv.conversion import beam

    yield beam.Runner(chosen.runner, shlex.split(chosen.runner_options), scratch).map


def select(chosen: ConvertOptions, catalog: Catalog, scratch: str, run: workers.Map) -> Selection:
    """Checks the images, writes those that need it anew into `scratch`, and chooses the pairs.

    Raises:
      UserError: the images, the list of pairs or the number of pairs cannot be used.
    """
    if source := chosen.pairs_list:
        level, is_csv = chosen.identity_level or 1, bool(chosen.pairs_csv)
        listed = pair_lists.read(source, catalog.images, catalog.root, level, is_csv=is_csv)
        return _select_listed(chosen, catalog, listed, scratch, run)
    return _select_sampled(chosen, catalog, scratch, run)


def _select_sampled(
    chosen: ConvertOptions, catalog: Catalog, scratch: str, run: workers.Map
) -> Selection:
    odd = catalog.unusable
    if chosen.strict and len(odd):
        raise UserError(
            f"{odd['path'].iloc[0]}: {odd['reason'].iloc[0]} (--strict stops here; without it "
            "the file is left out)"
        )
    images, excluded = _exclude(chosen, catalog.images)
    catalog = catalog._replace(images=images)
    findings = check_identities(chosen, catalog)
    shares = pairs.split_fractions(chosen.val_fraction, chosen.test_fraction)
    checked, found, made = _check_images(chosen, catalog, scratch, run, chosen.strict)
    copies = duplicates.find_copies(checked)
    sound, left_out = checked.sound, [odd, excluded, checked.refused]
    if not chosen.keep_duplicates:
        sound, dropped = duplicates.drop_copies(checked, copies)
        left_out.append(dropped)
    unused = pd.concat(left_out).sort_values("path", ignore_index=True)
    kept = catalog._replace(images=sound, unusable=unused, passed_over=catalog.passed_over.iloc[:0])
    sources.require_identities(kept, chosen.images)

    sound = pairs.split_images(sound, shares, chosen.seed)
    sampled = pairs.sample_pairs(sound[["identity", "split"]], chosen)
    return Selection(sound, sampled, unused, copies, findings, found, made, catalog.root)


def _exclude(chosen: ConvertOptions, images: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the images without those in --exclude, and these with the reason."""
    if chosen.exclude is None:
        return images, pd.DataFrame({"path": [], "reason": []}, dtype=object)
    rows = tables.read(chosen.exclude, ["path"])
    given = rows["reason"] if "reason" in rows else [""] * len(rows)
    reasons = {}
    known = set(images["path"])
    for row, (name, reason) in enumerate(zip(rows["path"], given, strict=True)):
        path = tables.normal_path(name, rows.place(row), chosen.images)
        if path not in known:
            advice = "give paths as in the data set, or remove the row"
            raise UserError(f"{rows.place(row)}: {path} is no image of {chosen.images}: {advice}")
        reasons[path] = f"in {chosen.exclude}" + (f": {reason}" if reason else "")
    out = images["path"].isin(reasons.keys()).to_numpy()
    excluded = images.loc[out, ["path"]]
    excluded = excluded.assign(reason=excluded["path"].map(reasons))
    return images[~out].reset_index(drop=True), excluded


def _select_listed(
    chosen: ConvertOptions, catalog: Catalog, listed: pd.DataFrame, scratch: str, run: workers.Map
) -> Selection:
    """Selects all pairs of a list: copies are reported, but a protocol must not change silently."""
    source = chosen.pairs_list or chosen.images
    named = pair_checks.restrict_to_pairs(catalog.images, listed)
    findings = check_identities(chosen, catalog._replace(images=named))
    unread = datasets.describe_unread(pd.concat([listed["a"], listed["b"]]))
    odd = pd.concat([catalog.unusable, unread])
    used = pair_checks.select_images(listed, catalog.images, odd, source)
    # Not strict: the refusal of a bad image names the line of the list.
    catalog = catalog._replace(images=used)
    checked, found, made = _check_images(chosen, catalog, scratch, run, strict=False)
    table = pair_checks.pairs_to_indices(listed, checked.sound, checked.refused, source)
    sound = checked.sound.assign(split=pd.Categorical([chosen.pairs_split] * len(checked.sound)))
    copies = duplicates.find_copies(checked)
    tables = {chosen.pairs_split: table}
    return Selection(sound, tables, checked.refused, copies, findings, found, made, catalog.root)


def check_identities(chosen: ConvertOptions, catalog: Catalog) -> tuple[identities.Finding, ...]:
    """As `identities.check`, for the images of the catalog."""
    where, level, merge = f"--images={chosen.images}", chosen.identity_level, chosen.merge_names
    return identities.check(catalog.images, level, merge, where, catalog.naming)


def _check_images(
    chosen: ConvertOptions, catalog: Catalog, scratch: str, run: workers.Map, strict: bool
) -> tuple[checking.Checked, faces.Faces | None, Preprocessing]:
    """Checks the images; those without a box or face are refused. Also returns their faces."""
    # Before the images are read: the CSV of boxes may change meanwhile.
    preprocessing = options_module.preprocessing_of(chosen)
    boxes, missing = storage.parse_crop(chosen.crop).boxes, f"no box in {chosen.crop}"
    images, paths = catalog.images, catalog.images["path"].array
    blocks = os.path.join(ownership.private_folder(chosen.output), faces.BLOCKS)
    margin, most, places = chosen.align_margin, chosen.max_pixels, datasets.list_places(images)
    found = faces.find_faces(chosen.faces, margin, paths, catalog.root, most, run, blocks, places)
    if found:
        boxes, missing = found.parts(paths), found.missing
        preprocessing = dataclasses.replace(preprocessing, alignment=found.alignment)
    boxless = images[["path"]].iloc[:0]
    if boxes is not None:
        has_box = images["path"].isin(boxes.keys()).to_numpy()
        boxless = images.loc[~has_box, ["path"]]
        images = images[has_box].reset_index(drop=True)
    rules = storage.StorageRules(chosen.max_pixels, preprocessing)
    checked = checking.check_images(images, catalog.root, scratch, rules, boxes, run, strict)
    refused = pd.concat([boxless.assign(reason=missing), checked.refused])
    return dataclasses.replace(checked, refused=refused), found, preprocessing


def write_shards(
    chosen: ConvertOptions,
    selection: Selection,
    counts: dict[str, int],
    scratch: str,
    run: workers.Map,
) -> dict[str, tuple[manifest.Shard, ...]]:
    """Writes and returns the shards of every split, except those that an earlier run wrote.

    Raises:
      UnfinishedError: an image or a shard could not be read or written.
    """
    folders = (selection.root, scratch, chosen.output)
    tasks = (
        task
        for split, table in selection.tables.items()
        for task in shards.plan_split(
            split, table, selection.images, counts[split], chosen.seed, folders
        )
    )
    written = []
    with progress.Progress(sum(map(len, selection.tables.values())), "write", "pair") as bar:
        try:
            for shard in run(shards.write_shard, tasks):
                written.append(shard)
                bar.update(shard.records)
        except OSError as error:
            raise UnfinishedError(error, sum(counts.values()), selection.root) from error
    rest = iter(written)
    return {split: tuple(next(rest) for _ in range(counts[split])) for split in selection.tables}


def _describe_split(
    selection: Selection, split: str, written: tuple[manifest.Shard, ...]
) -> manifest.Split:
    table = selection.tables[split]
    genuine = int((table["label"] == record.GENUINE).sum())
    images = len(pd.unique(table[["a", "b"]].to_numpy().ravel()))
    held = selection.images["split"] == split
    members = tuple(sorted(selection.images["identity"][held].unique()))
    return manifest.Split(genuine, len(table) - genuine, images, members, written)


def _image_side(selection: Selection) -> int | None:
    """The side of every stored image if all are squares of one size, else None."""
    ends = [table[column] for table in selection.tables.values() for column in ("a", "b")]
    sides = selection.images["side"].loc[pd.unique(pd.concat(ends))].unique()
    return int(sides[0]) if len(sides) == 1 and sides[0] else None

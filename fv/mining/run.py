"""Mining from its options: a data set's conversion again, with its training pairs chosen by what a model finds hard."""

import dataclasses
import os

import numpy as np
import pandas as pd
from absl import flags

from fv import files, manifest, ownership, record
from fv import options as fv_options
from fv.conversion import convert, pairs, settings, shards
from fv.conversion.caps import Caps
from fv.conversion.selection import Selection
from fv.errors import UserError
from fv.mining import choosing, search
from fv.mining.choosing import Chosen, Wanted
from fv.mining.options import MineOptions
from fv.mining.search import FixedPoint, Partners
from fv.model import model_record
from fv.model.model_record import ModelRecord

TRAIN = "train"
FILE_NAME = "mining.json"
_EMBEDDINGS = "embeddings"  # in the output's .fv/
_MEGABYTE = 1_000_000
_PAIRS_AT_ONCE = 1 << 16
_NAMES = {record.GENUINE: "genuine", record.IMPOSTOR: "impostor"}


def mine(options: MineOptions) -> tuple[manifest.Manifest, dict]:
    """Writes a data set like `options.tfrecords`, but for its training pairs; the other splits' shards have the same bytes.

    Killed at any moment and run again it goes on: images that were embedded are not embedded again, shards that are whole
    are not written again.

    Returns:
      The manifest, and what was mined: by label, numbers of pairs and mean cosines.

    Raises:
      UserError: the data set, the model or the images cannot be used, or the model knows people whom the data set holds out.
    """
    source = manifest.read(options.tfrecords)
    chosen = _conversion(options, source)
    known = model_record.load(options.workdir)
    _require_strangers(
        source, known, options, exact="--merge_names=false" in source.flags.splitlines()
    )
    _require_same_images(source, known, options, chosen)
    ownership.claim(options.output, [FILE_NAME], lambda name: _is_mined(options.output))
    found = {}

    def reselect(selected: Selection, scratch: str) -> Selection:
        found.update(_mine(options, chosen, known, selected, source, scratch))
        return dataclasses.replace(selected, tables=selected.tables | {TRAIN: found.pop("table")})

    made, _ = convert.convert(chosen, reselect)
    ownership.save_json(
        {"flags": fv_options.to_flagfile(options), **found}, os.path.join(options.output, FILE_NAME)
    )
    ownership.remove_private(options.output, _EMBEDDINGS)
    return made, found


def _is_mined(folder: str) -> bool:
    """Whether a mining.json is of an earlier fv, which listed no files."""
    try:
        return files.load_json(os.path.join(folder, FILE_NAME)).keys() == {
            "flags",
            *_NAMES.values(),
        }
    except (UserError, AttributeError):
        return False


def _conversion(options: MineOptions, source: manifest.Manifest) -> settings.Options:
    """The options that converted the data set, with those that mining changes."""
    if os.path.realpath(options.output) == os.path.realpath(options.tfrecords):
        raise UserError(
            f"--output={options.output} is the data set that is mined: give another folder"
        )
    values = flags.FlagValues()
    fv_options.define_flags(settings.Options, values)
    try:
        values(["", *source.flags.splitlines()])
    except flags.Error as error:
        raise UserError(
            f"{options.tfrecords} was converted by another fv ({error}): convert it again with --overwrite"
        ) from error
    given = fv_options.from_flags(settings.Options, values) if values["images"].value else None
    source.split(TRAIN)  # or a refusal
    if given is None or given.pairs_list:
        raise UserError(
            f"--tfrecords={options.tfrecords} holds no pairs that the converter sampled: convert without a list"
        )
    changed = dict(
        output=options.output,
        overwrite=options.overwrite,
        workers=options.workers,
        runner=settings.LOCAL,
    )
    changed |= dict(
        identity_level=given.naming[0], merge_names=given.naming[1]
    )  # decided when the data set was converted
    return dataclasses.replace(
        given, **changed, runner_options="", images=options.images or given.images
    )


def _require_strangers(
    source: manifest.Manifest, known: ModelRecord, options: MineOptions, exact: bool
) -> None:
    seen = known.trained_on(_held_out(source), exact) if known.identity_hashes is not None else []
    if seen:
        raise UserError(
            f"--workdir={options.workdir} was trained on {len(seen):,} people whom {options.tfrecords} holds out "
            f"({seen[0]}, …), so what it finds hard tells of them: take a model that was trained on that data set"
        )


def _require_same_images(
    source: manifest.Manifest, known: ModelRecord, options: MineOptions, chosen: settings.Options
) -> None:
    """Checks that the model was trained on images like the data set's, and that mining stores them as they were."""
    advice = "take a model that was trained on that data set"
    model_record.check_images(
        known, options.workdir, source.preprocessing, options.tfrecords, advice
    )
    stored, again = source.preprocessing, settings.preprocessing_of(chosen)
    if stored and not (again.same_crop(stored) and again.same_boxes(stored)):
        raise UserError(
            f"--crop={chosen.crop} changed since {options.tfrecords} was converted: convert it again"
        )


def _mine(
    options: MineOptions,
    chosen: settings.Options,
    known: ModelRecord,
    selected: Selection,
    source: manifest.Manifest,
    scratch: str,
) -> dict:
    """The training pairs, `table`, and by label what was mined."""
    members = selected.images[selected.images["split"] == TRAIN].sort_values(
        "identity", kind="stable"
    )
    _require_held_out(source, members)
    owners, sizes = np.unique(
        members["identity"].cat.codes.to_numpy(), return_inverse=True, return_counts=True
    )[1:]
    embeddings = _embed(options, known, shards.stored_images(members, chosen.images, scratch))
    arguments = (embeddings, owners.reshape(-1))
    tile = options.search_mb * _MEGABYTE
    nearest = search.nearest_impostors(*arguments, options.partners + options.skip_nearest, tile)
    farthest = search.farthest_genuine(*arguments, options.partners + options.skip_farthest, tile)
    hard = {
        record.GENUINE: _band(
            farthest, options.skip_farthest, farthest.cosines >= options.min_genuine_cosine
        ),
        record.IMPOSTOR: _band(
            nearest, options.skip_nearest, nearest.cosines <= options.max_impostor_cosine
        ),
    }
    count = options.pairs or source.split(TRAIN).pairs
    by_label = _choose(options, chosen, sizes.astype(np.int64), hard, count)
    described = {_NAMES[label]: _describe(each, embeddings) for label, each in by_label.items()}
    return {
        "table": _table(
            members, {label: each.pairs for label, each in by_label.items()}, options.seed
        ),
        **described,
    }


def _embed(options: MineOptions, known: ModelRecord, images: shards.Images) -> FixedPoint:
    from fv import quiet_tensorflow  # noqa: F401  loaded here: the converter's processes, which import this, stay small
    from fv.mining import embedding

    embedder = embedding.Embedder(options.workdir, known, options.checkpoint, options.batch_size)
    return FixedPoint.of(
        embedder.embed(images, os.path.join(ownership.private(options.output), _EMBEDDINGS))
    )


def _band(partners: Partners, skipped: int, allowed: np.ndarray) -> np.ndarray:
    """The partners behind those that are passed over, `NOBODY` in the place of those that are not allowed."""
    return np.where(allowed, partners.images, search.NOBODY)[:, skipped:]


def _choose(
    options: MineOptions,
    chosen: settings.Options,
    sizes: np.ndarray,
    hard: dict[int, np.ndarray],
    count: int,
) -> dict[int, Chosen]:
    """By label, pairs of places among the images, in the shares of the data set."""
    caps = Caps(
        options.max_pairs_per_identity or chosen.max_pairs_per_identity,
        options.max_pairs_per_image or chosen.max_pairs_per_image,
    )
    rng, share = pairs.generator(options.seed, "mining", "pairs"), chosen.genuine_fraction
    wanted = Wanted(round(count * share), options.hard_share, caps)
    genuines = choosing.choose_genuine(sizes, hard[record.GENUINE], wanted, rng)
    beside = min(
        count - wanted.count, round(len(genuines.pairs) * (1.0 - share) / share) + count % 2
    )
    impostors = choosing.choose_impostors(
        sizes, hard[record.IMPOSTOR], dataclasses.replace(wanted, count=beside), rng
    )
    return {record.GENUINE: genuines, record.IMPOSTOR: impostors}


def _describe(found: Chosen, embeddings: FixedPoint) -> dict:
    """How many pairs are mined, and mean cosines of those and of the others (None where there are none)."""
    cosines = {
        "hard_cosine": _mean_cosine(found.hard, embeddings),
        "other_cosine": _mean_cosine(found.others, embeddings),
    }
    return {"pairs": len(found.pairs), "hard": len(found.hard), **cosines}


def _mean_cosine(ends: np.ndarray, embeddings: FixedPoint) -> float | None:
    if not len(ends):
        return None
    blocks = np.array_split(ends, -(-len(ends) // _PAIRS_AT_ONCE))
    sums = [
        np.einsum("nd,nd->", *(embeddings.numbers[column] for column in block.T))
        for block in blocks
    ]
    return float(np.sum(sums, dtype=np.float64) / embeddings.scale**2 / len(ends))


def _table(members: pd.DataFrame, ends: dict[int, np.ndarray], seed: int) -> pd.DataFrame:
    """The pairs as a selection holds them, each pair's images in random order."""
    labels = np.repeat(np.array(list(ends), np.int8), [len(each) for each in ends.values()])
    numbers = members.index.to_numpy(np.int32)[np.concatenate(list(ends.values()))]
    swapped = pairs.generator(seed, "mining", "sides").random(len(numbers)) < 0.5
    numbers[swapped] = numbers[swapped, ::-1]
    return pd.DataFrame({"a": numbers[:, 0], "b": numbers[:, 1], "label": labels})


def _require_held_out(source: manifest.Manifest, members: pd.DataFrame) -> None:
    """Checks that nobody whom the data set holds out became a training identity."""
    wrong = _held_out(source).intersection(members["identity"].unique())
    if wrong:
        raise UserError(
            f"{min(wrong)} is held out by the data set, but its flags put them into training: convert it again with "
            "--overwrite"
        )


def _held_out(source: manifest.Manifest) -> set[str]:
    return {
        name for split, held in source.splits.items() if split != TRAIN for name in held.identities
    }

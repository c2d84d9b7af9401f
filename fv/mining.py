"""Mines training pairs that a trained model finds hard, within the converter's caps.

Hard pairs join an image with its nearest impostors and its farthest genuine partners.
"""

import dataclasses
import os

import numpy as np
import pandas as pd

from fv import files, manifest, ownership, partner_search, record
from fv import options as fv_options
from fv.conversion import convert, faces, pair_sampling, pairs, shards
from fv.conversion import options as options_module
from fv.conversion.pair_sampling import Capacity, Caps
from fv.conversion.pairs import Selection
from fv.errors import UserError
from fv.model import model_record
from fv.model.model_record import ModelRecord
from fv.options import option, required
from fv.partner_search import NOBODY, FixedPoint
from fv.workdir import checkpoint_flag

# The converter's processes import this module, so it imports TensorFlow where it embeds.

FILE_NAME = "mining.json"
_TRAIN = "train"
_EMBEDDINGS = "embeddings"  # folder in the output's .fv/
_NAMES = {record.GENUINE: "genuine", record.IMPOSTOR: "impostor"}
_PAIRS_AT_ONCE = 1 << 16  # whose cosines are averaged
_PARTNERS = 20  # of each image that are considered for each label


@dataclasses.dataclass(frozen=True)
class MineOptions:
    """Whose pairs are mined, by which model, and how hard they may be."""

    tfrecords: str = required(
        "data set that tools/make_tfrecords.py sampled; its training people are mined."
    )
    workdir: str = required("folder that fv.train wrote: the model that says what is hard.")
    output: str = required("folder for the shards and manifest.json.")
    images: str | None = option(
        None, "Folder of the images, if they were moved after the conversion."
    )
    checkpoint: str = checkpoint_flag()
    hard_share: float = option(
        0.5,
        "Share of mined pairs among the pairs of each label; the others are random.",
        lower=0.0,
        upper=1.0,
    )
    skip_nearest: int = option(
        1, "Nearest impostors of each image to skip: they may be mislabelled.", lower=0
    )
    seed: int = option(0, "Seed of the choice of pairs; splits keep the data set's seed.", lower=0)
    overwrite: bool = option(False, "Replace a finished data set in the output folder.")
    workers: int | None = option(None, "Processes; one per core if not given.", lower=1)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """Mined and random pairs of one label, int64 [m, 2], the lower image first, none twice."""

    hard: np.ndarray
    others: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        """All pairs, the mined ones first."""
        return np.concatenate([self.hard, self.others])


def mine(options: MineOptions) -> tuple[manifest.Manifest, dict]:
    """Writes the data set again, with training pairs that a model finds hard.

    The shards of the other splits have the same bytes. After a kill, the same command continues: it
    repeats neither embedded images nor whole shards.

    Returns:
      The manifest; and by label what was mined: numbers of pairs and mean cosines.

    Raises:
      UserError: the data set, the model or the images cannot be used, or the model was trained on
        people whom the data set holds out.
    """
    source = manifest.read(options.tfrecords)
    chosen = restore_conversion(options, source)
    known = model_record.load(options.workdir)
    _require_fitting_model(options, source, known)
    aligned = faces.describe(chosen.faces, chosen.align_margin)
    again = dataclasses.replace(options_module.preprocessing_of(chosen), alignment=aligned)
    stored = source.preprocessing
    if not again.same_crop(stored) or again.boxes != stored.boxes:
        changed = f"--crop={chosen.crop} changed since {options.tfrecords} was converted"
        raise UserError(f"{changed}: convert it again")
    ownership.claim(options.output, [FILE_NAME])
    found: dict[str, dict] = {}

    def reselect(selected: Selection, scratch: str) -> Selection:
        table, described = _mine_training_pairs(options, chosen, known, selected, source, scratch)
        found.update(described)
        return dataclasses.replace(selected, tables=selected.tables | {_TRAIN: table})

    made, _ = convert.convert(chosen, reselect)
    content = {"flags": fv_options.to_flagfile(options), **found}
    ownership.save_json(content, os.path.join(options.output, FILE_NAME))
    ownership.remove_private(options.output, _EMBEDDINGS)
    return made, found


def restore_conversion(
    options: MineOptions, source: manifest.Manifest
) -> options_module.ConvertOptions:
    """Restores the options that converted the data set, with those that mining changes.

    Raises:
      UserError: the data set was not sampled by this version's converter, or is the output.
    """
    if os.path.realpath(options.output) == os.path.realpath(options.tfrecords):
        same = f"--output={options.output} is the data set that is mined"
        raise UserError(f"{same}: give another folder")
    source.split(_TRAIN)  # refuses a data set without one
    given = None
    if "--images=" in source.flags:
        try:
            given = fv_options.parse(options_module.ConvertOptions, source.flags.splitlines())
        except ValueError as error:
            other = f"{options.tfrecords} was converted by another version of fv ({error})"
            raise UserError(f"{other}: convert it again with --overwrite") from error
    if given is None or given.pairs_list:
        without = f"--tfrecords={options.tfrecords} holds no pairs that the converter sampled"
        raise UserError(f"{without}: convert without a list")
    chosen_faces, points = given.faces, os.path.join(options.tfrecords, faces.FILE)
    if chosen_faces.detector and files.exists(points):  # they were found once
        chosen_faces = dataclasses.replace(
            chosen_faces, face_points=points, detector=None, detector_model=None
        )
    return dataclasses.replace(
        given,
        images=options.images or given.images,
        output=options.output,
        overwrite=options.overwrite,
        workers=options.workers,
        runner=options_module.LOCAL,
        runner_options="",
        identity_level=given.identity_level or 1,  # was decided at conversion
        merge_names=bool(given.merge_names),
        faces=chosen_faces,
    )


def choose_pairs(
    label: int,
    sizes: np.ndarray,
    partners: np.ndarray,
    count: int,
    hard_share: float,
    caps: Caps,
    rng: np.random.Generator,
) -> Chosen:
    """Chooses pairs of one label, the mined ones first.

    Args:
      label: `record.GENUINE` or `record.IMPOSTOR`.
      sizes: int64, images of each identity; images are numbered identity by identity.
      partners: int32 [n, k], of each image, the hardest first, `NOBODY` where there are no more.
      count: pairs to choose; there are fewer where the caps leave no more.
      hard_share: share of them to take from `partners`.
      caps: most pairs of one identity and one image.
      rng: source of randomness.
    """
    images, genuine = len(partners), label == record.GENUINE
    # Both images of a genuine pair count, and they are of one identity.
    capacity = Capacity(sizes, caps._replace(identity=caps.identity * (2 if genuine else 1)))
    ordered = order_by_rank(partners, rng)
    hard = pair_sampling.take_within_caps(ordered, capacity, round(hard_share * count))
    if genuine:
        most = pair_sampling.count_genuine(sizes, caps)
        others = pair_sampling.sample_genuine(sizes, most, caps, rng)
        others = _without(others[rng.permutation(len(others))], hard, images)
        return Chosen(hard, pair_sampling.take_within_caps(others, capacity, count - len(hard)))
    made = pair_sampling.sample_impostors(sizes, count, caps, rng, given=hard)
    # The sampler may replace a given pair by two others.
    hard = hard[np.isin(_keys(hard, images), _keys(made, images))]
    return Chosen(hard, _without(made, hard, images))


def order_by_rank(partners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Orders the pairs of images and partners: hardest partners first, then second ones, ….

    Pairs of one rank are in random order, so that neither low numbers nor large identities win.

    Args:
      partners: int32 [n, k], `NOBODY` where there are no more.
      rng: source of randomness.

    Returns:
      int64 [m, 2], each pair once, the lower image first.
    """
    images, ranks = np.nonzero(partners != NOBODY)
    ends = np.sort(np.stack([images, partners[images, ranks].astype(np.int64)], axis=1), axis=1)
    ends = ends[np.lexsort((rng.random(len(ends)), ranks))]
    first = np.unique(_keys(ends, len(partners)), return_index=True)[1]
    return ends[np.sort(first)]


def _require_fitting_model(
    options: MineOptions, source: manifest.Manifest, known: ModelRecord
) -> None:
    """Checks that the model met none of the held-out people, and images stored like these."""
    advice = "take a model that was trained on that data set"
    exact = "--merge_names=false" in source.flags.splitlines()
    seen = known.trained_on(_held_out(source), exact) if known.identity_hashes is not None else []
    if seen:
        raise UserError(
            f"--workdir={options.workdir} was trained on {len(seen):,} people whom "
            f"{options.tfrecords} holds out ({seen[0]}, …): {advice}"
        )
    model_record.check_images(
        known, options.workdir, source.preprocessing, options.tfrecords, advice
    )


def _held_out(source: manifest.Manifest) -> set[str]:
    splits = source.splits.items()
    return {name for split, held in splits if split != _TRAIN for name in held.identities}


def _mine_training_pairs(
    options: MineOptions,
    chosen: options_module.ConvertOptions,
    known: ModelRecord,
    selected: Selection,
    source: manifest.Manifest,
    scratch: str,
) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The table of training pairs, and by label what was mined."""
    members = selected.images[selected.images["split"] == _TRAIN]
    members = members.sort_values("identity", kind="stable")
    wrong = _held_out(source).intersection(members["identity"].unique())
    if wrong:
        moved = f"{min(wrong)} is held out by the data set, but its flags put them into training"
        raise UserError(f"{moved}: convert it again with --overwrite")
    owners, sizes = np.unique(
        members["identity"].cat.codes.to_numpy(), return_inverse=True, return_counts=True
    )[1:]
    images = shards.stored_images(members, selected.root, scratch)
    embeddings = FixedPoint.of(_embed(options, known, images))
    find, skip = partner_search.find_partners, options.skip_nearest
    nearest = find(embeddings, owners, _PARTNERS + skip, genuine=False)[:, skip:]
    farthest = find(embeddings, owners, _PARTNERS, genuine=True)
    partners = {record.GENUINE: farthest, record.IMPOSTOR: nearest}
    count = source.split(_TRAIN).pairs
    by_label = _choose(options, chosen, sizes.astype(np.int64), partners, count)
    described = {
        _NAMES[label]: {
            "pairs": len(found.pairs),
            "hard": len(found.hard),
            "hard_cosine": _mean_cosine(found.hard, embeddings),
            "other_cosine": _mean_cosine(found.others, embeddings),
        }
        for label, found in by_label.items()
    }
    ends = {label: found.pairs for label, found in by_label.items()}
    sides = pairs.random_generator(options.seed, "mining", "sides")
    return pairs.make_table(members, ends, sides), described


def _embed(options: MineOptions, known: ModelRecord, images: shards.Images) -> np.ndarray:
    from fv import quiet_tensorflow  # noqa: F401, I001  TensorFlow first
    from fv import embedding
    from fv.model import checkpoint_files

    model, _ = checkpoint_files.load_model(options.workdir, known, options.checkpoint)
    found = embedding.embed(
        model.encoder,
        known.options,
        images,
        folder=os.path.join(ownership.private_folder(options.output), _EMBEDDINGS),
        checksums=np.stack([images.sizes, images.crcs], axis=1),
    )
    if len(found) > 1 and (found == found[0]).all():
        raise UserError("the model gives every image the same embedding: train it again")
    return found


def _choose(
    options: MineOptions,
    chosen: options_module.ConvertOptions,
    sizes: np.ndarray,
    partners: dict[int, np.ndarray],
    count: int,
) -> dict[int, Chosen]:
    """Chooses pairs of each label, in the shares of the data set."""
    rng = pairs.random_generator(options.seed, "mining", "pairs")
    share, hard_share = chosen.genuine_fraction, options.hard_share
    wanted = round(count * share)

    def choose(label: int, wanted: int) -> Chosen:
        return choose_pairs(label, sizes, partners[label], wanted, hard_share, chosen.caps, rng)

    found = choose(record.GENUINE, wanted)
    # Fewer genuine pairs than wanted take fewer impostor pairs beside them.
    wanted = min(count - wanted, round(len(found.pairs) * (1.0 - share) / share) + count % 2)
    return {record.GENUINE: found, record.IMPOSTOR: choose(record.IMPOSTOR, wanted)}


def _mean_cosine(ends: np.ndarray, embeddings: FixedPoint) -> float | None:
    if not len(ends):
        return None
    sums = 0.0
    for start in range(0, len(ends), _PAIRS_AT_ONCE):
        first, second = ends[start : start + _PAIRS_AT_ONCE].T
        numbers = embeddings.numbers
        sums += float(np.einsum("nd,nd->", numbers[first], numbers[second], dtype=np.float64))
    return sums / embeddings.scale**2 / len(ends)


def _without(pairs: np.ndarray, others: np.ndarray, images: int) -> np.ndarray:
    return pairs[~np.isin(_keys(pairs, images), _keys(others, images))]


def _keys(pairs: np.ndarray, images: int) -> np.ndarray:
    return pairs @ (images, 1)

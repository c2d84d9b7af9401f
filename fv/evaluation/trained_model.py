"""Evaluation of a workdir's model: reads pairs, scores them, decides them, writes the report."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras

import fv
from fv import files, ownership, tables, workdir
from fv import options as fv_options
from fv.errors import UserError
from fv.evaluation import figures, pair_sources, protocols, report, scores
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pair_sources import EvaluationPairs
from fv.evaluation.pairs import PairSet
from fv.evaluation.protocols import Decisions
from fv.evaluation.scores import ImageFeatures
from fv.model import checkpoint_files, model_record, siamese
from fv.model.model_record import ModelRecord

_SLICES = 4  # of as equal a number of pairs as the values allow
_FEW_IMAGES = (1, 2, 3, 5, 10, 20)  # where the slices by images of a person begin
_NAMED = 5  # people in a message
_KEPT = ("at", "revision", "host", "python", "manifest_sha256")  # of the last start
_NAMED_FLAGS = ("seed", "steps", "teacher", "init_weights")  # shown beside these


def evaluate_model(options: EvaluateOptions) -> None:
    """Evaluates the workdir's model on the pairs of checked options; prints a table.

    Raises:
      UserError: as `fv.evaluate.evaluate`.
    """
    folder = options.workdir
    assert folder is not None
    trained = model_record.load(folder)
    if options.pairs_list or options.threshold_pairs:
        options = pair_sources.with_training_crop(options, trained.preprocessing)
    pairs = pair_sources.read_pairs(options, trained)
    output = _output_folder(options, folder, pairs)
    # before anything is computed, which takes minutes
    report.claim_outputs(output, report.OF_MODEL, options)
    exact = options.merge_names is False
    seen = find_training_identities(
        trained, folder, pairs.scored, allowed=options.allow_seen_identities, exact=exact
    )
    model, step = checkpoint_files.load_model(folder, trained, options.checkpoint)
    scored, choosing, features, decisions = _score_and_decide(pairs, model, options, trained)
    of_model = decisions.pop(scores.MODEL)
    people = scored.people() if scored.named else None
    measured = figures.measure(of_model, decisions, people, options.bootstrap, options.seed)
    if choosing is None and not (options.folds and scored.named):  # folds of the list
        first, second = (features.embeddings[ends] for ends in (scored.first, scored.second))
        distances = np.square(first.astype(np.float64) - second).sum(axis=1)
        measured["insightface"] = protocols.insightface_accuracy(
            distances, scored.labels, scored.folds
        )
    content = measured | {
        "slices": cut_slices(scored, features, of_model.correct),
        "split": scored.name,
        "pairs_sha256": scored.digest(),
        "threshold_split": choosing.name if choosing else None,
        "threshold_rule": pairs.threshold_rule,
        "step": step,
        "tfrecords": options.tfrecords,
        "threshold_tfrecords": options.threshold_tfrecords or options.tfrecords,
        "run": describe_run(options, trained),
        "seen_identities": seen,
    }
    notes = [
        *figures.note_similarities(of_model, decisions),
        note_training_identities(seen, scored),
        note_external_teachers(trained),
        *(note_choosing_pairs(trained, scored, choosing, exact) if choosing else ()),
        scored.note,
        choosing.note if choosing else "",
    ]
    content["notes"] = [note for note in notes if note]
    with ownership.staged(output, report.OF_MODEL) as staging:
        files.save_json(content, os.path.join(staging, workdir.METRICS))
        with files.atomic_open(os.path.join(staging, workdir.EVALUATE_FLAGS)) as file:
            file.write(fv_options.to_flagfile(options))
        _write_scores(os.path.join(staging, workdir.SCORES), scored, of_model)
        report.write_report(staging, scored, features.embeddings, of_model, content)
    print(f"{figures.render_table(content)}\nreport: {os.path.join(output, report.FILE_NAME)}")


def _output_folder(options: EvaluateOptions, workdir: str, pairs: EvaluationPairs) -> str:
    """The workdir, if fv.export may take the threshold from there; else a folder in it.

    An export has no folds and mirrors no images, and is calibrated on shards.
    """
    if options.output:
        return options.output
    if options.tfrecords and pairs.choosing and not options.threshold_pairs and not options.flip:
        return workdir
    folds = f"-{options.folds}-folds" if options.folds else ""
    name = os.path.splitext(pairs.scored.name)[0]
    return os.path.join(workdir, f"{name}{folds}{'-flip' if options.flip else ''}")


def _score_and_decide(
    pairs: EvaluationPairs, model: siamese.Siamese, options: EvaluateOptions, trained: ModelRecord
) -> tuple[PairSet, PairSet | None, ImageFeatures, dict[str, Decisions]]:
    """Returns the pairs without broken images, the scored images, and decisions by scorer."""
    untrained = None
    if options.baselines:
        tf_keras.utils.set_random_seed(options.seed)
        untrained = siamese.build_siamese(trained.options, trained.identities)

    def score(
        wanted: PairSet, in_list: bool
    ) -> tuple[PairSet, ImageFeatures, dict[str, np.ndarray]]:
        features = scores.extract_features(
            wanted.images,
            wanted.name,
            model,
            trained.options,
            untrained=untrained,
            flip=options.flip,
        )
        whole = pair_sources.leave_out_broken(
            wanted, features.broken, options.allow_missing, in_list=in_list
        )
        return whole, features, scores.score_pairs(whole, features, model)

    scored, features, similarities = score(pairs.scored, options.pairs_list is not None)
    if pairs.choosing is None:
        folds = protocols.split_folds(scored)
        decisions = {
            name: protocols.cross_validate(values, scored.labels, *folds)
            for name, values in similarities.items()
        }
        return scored, None, features, decisions
    choosing, _, others = score(pairs.choosing, options.threshold_pairs is not None)
    decisions = {
        name: protocols.hold_out(values, scored.labels, others[name], choosing.labels)
        for name, values in similarities.items()
    }
    return scored, choosing, features, decisions


def cut_slices(
    pairs: PairSet, features: ImageFeatures, correct: np.ndarray
) -> dict[str, list[dict[str, float]]]:
    """Measures the accuracy of parts of the pairs: of people with few images, of dark images, …

    A pair has the lower value of its two images.

    Args:
      pairs: the pairs.
      features: of their images.
      correct: bool [n], whether a pair is decided correctly.

    Returns:
      By the name of a value, slices by rising value: `low` and `high` (both included), `pairs`,
      `genuine` and `accuracy`.
    """
    values = {
        "images of the person": pairs.images.images_of_identity,
        "brightness (mean grey level, 0 to 255)": features.brightness,
        "sharpness (variance of the Laplacian)": features.sharpness,
        "shorter side of the stored image (pixels)": features.side,
    }
    if not pairs.named:
        del values["images of the person"]
    slices = {}
    for name, of_image in values.items():
        of_pair = np.minimum(of_image[pairs.first], of_image[pairs.second])
        starts = np.array(_FEW_IMAGES)
        if of_image is not pairs.images.images_of_identity:
            starts = np.quantile(of_pair, np.arange(_SLICES) / _SLICES)
        part = np.searchsorted(np.unique(starts), of_pair, side="right")
        members = [np.flatnonzero(part == number) for number in np.unique(part)]
        slices[name] = [
            dict(
                low=float(of_pair[inside].min()),
                high=float(of_pair[inside].max()),
                pairs=len(inside),
                genuine=int(pairs.labels[inside].sum()),
                accuracy=float(correct[inside].mean()),
            )
            for inside in members
        ]
    return slices


def _write_scores(path: str, scored: PairSet, decisions: Decisions) -> None:
    images = scored.images
    columns = {
        "similarity": decisions.similarities,
        "label": decisions.labels,
        "probability": decisions.probabilities,
        "same": decisions.same.astype(int),
        "fold": scored.folds,
        "identity_a": [images.identities[image] for image in scored.first],
        "identity_b": [images.identities[image] for image in scored.second],
        "image_a": [images.paths[image] for image in scored.first],
        "image_b": [images.paths[image] for image in scored.second],
    }
    tables.write(path, pd.DataFrame(columns))


# Where the model comes from. Figures on training identities say nothing about strangers.


def find_training_identities(
    trained: ModelRecord, folder: str, scored: PairSet, *, allowed: bool, exact: bool = False
) -> dict[str, bool | int]:
    """Looks for training identities among the people of the scored pairs.

    Args:
      trained: the record of the model.
      folder: its workdir, for messages.
      scored: the pairs.
      allowed: whether training identities may be scored.
      exact: whether names that differ only in spelling are different people's.

    Returns:
      `known`: whether the workdir lists its training identities; `people`: the number of people;
      `seen`: how many of them the model was trained on.

    Raises:
      UserError: there are such people or the workdir does not list them, and that is not allowed.
    """
    people = scored.identities()
    if trained.identity_hashes is None:
        if not (allowed or not scored.named):
            raise UserError(
                f"{folder} does not say whom it was trained on (its first weights are an "
                "export's): train it again, or give --allow_seen_identities to report without "
                "that check"
            )
        return dict(known=False, people=len(people), seen=0)
    seen = trained.trained_on(people, exact)
    if seen and not allowed:
        respelled = sorted(set(seen) - set(trained.trained_on(people, exact=True)))
        remedy = ""
        if respelled:
            remedy = f", or --nomerge_names if {_shorten(respelled)} only has a name like theirs"
        raise UserError(
            f"{len(seen):,} of the {len(people):,} people in {scored.name} are training identities "
            f"of {folder} ({_shorten(seen)}): score strangers, or give --allow_seen_identities"
            f"{remedy}"
        )
    return dict(known=scored.named, people=len(people), seen=len(seen))


def note_training_identities(found: dict, scored: PairSet) -> str:
    """The note on what `find_training_identities` found; "" if all people are strangers."""
    if not scored.named:
        return (
            f"{scored.name} does not name its people: they may be among those that the model was "
            "trained on, and there are no intervals."
        )
    if not found["known"]:
        return (
            "The workdir does not say whom the model was trained on: people of these pairs may be "
            "among them."
        )
    if not found["seen"]:
        return ""
    return (
        f"The model was trained on {found['seen']:,} of the {found['people']:,} people in "
        f"{scored.name}: these figures do not hold for strangers."
    )


def note_external_teachers(trained: ModelRecord) -> str:
    """The note on teachers from files; "" if there are none."""
    if not trained.external_teachers:
        return ""
    names = ", ".join(trained.external_teachers)
    return (
        f"The model imitated {names}. The people that this teacher was trained on are not known: "
        "some may be among the people of these pairs."
    )


def note_choosing_pairs(
    trained: ModelRecord, scored: PairSet, choosing: PairSet, exact: bool = False
) -> list[str]:
    """Notes on pairs and people that choose the threshold and are scored or trained on."""
    notes = [protocols.note_shared(scored.keys(), choosing.keys())]
    people = choosing.identities()
    both = sorted(scored.identities() & people)
    if both:
        notes.append(
            f"The threshold was chosen on pairs of {len(both):,} people who are scored too "
            f"({_shorten(both)})."
        )
    seen = trained.trained_on(people, exact) if trained.identity_hashes is not None else []
    if seen:
        notes.append(
            f"The threshold was chosen on {choosing.name}, where {len(seen):,} of {len(people):,} "
            "people are training identities: their images look more alike to the model than "
            "strangers' do, and threshold and probability suffer."
        )
    return notes


def describe_run(options: EvaluateOptions, trained: ModelRecord) -> dict:
    """The `run` of metrics.json: model, training run, versions and flags."""
    assert options.workdir is not None
    devices = [device.device_type for device in tf.config.list_physical_devices()]
    return dict(
        workdir=options.workdir,
        fv=fv.__version__,
        tensorflow=tf.__version__,
        devices=", ".join(sorted(set(devices))),
        model=dataclasses.asdict(trained.options),
        training=read_training(options.workdir),
        training_identities=trained.identities,
        training_input=input_verdict(options.workdir),
        flags=options.given_flags(),
    )


def input_verdict(folder: str) -> str:
    """Whether the training run waited for input, and the remedy; "" if it does not say.

    The last start that ended after a step says it.
    """
    ended = [start["ended"] for start in workdir.starts(folder) if start["ended"]]
    return next(filter(None, (end.get("input_verdict") for end in reversed(ended))), "")


def read_training(folder: str) -> dict | None:
    """Reads the training run of a workdir; None if it holds no run.json.

    Returns:
      Of the last start `at` (UTC), `revision` (of fv's repository), `host`, `python` and
      `manifest_sha256` (of its shards); the number of `starts`; `seed`, `steps`, `teacher` and
      `init_weights`, None if not given; and all `flags`, name → text.
    """
    starts = workdir.starts(folder)
    if not starts:
        return None
    flags = dict(line.removeprefix("--").split("=", 1) for line in starts[-1].get("flags", []))
    kept = {name: starts[-1].get(name) for name in _KEPT}
    named = {name: flags.get(name) for name in _NAMED_FLAGS}
    return kept | {"starts": len(starts)} | named | {"flags": flags}


def _shorten(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")

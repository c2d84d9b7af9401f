"""A workdir's model, evaluated: pairs, similarities, verdicts by others' threshold, figures, and what is written."""

import dataclasses
import os

import numpy as np
import pandas as pd
import tf_keras

from fv import files, ownership, tables, workdir
from fv import options as fv_options
from fv.evaluation import figures, pair_sources, protocols, provenance, report, scores
from fv.evaluation.options import EvaluateOptions
from fv.evaluation.pair_sources import Task
from fv.evaluation.pairs import PairSet
from fv.evaluation.protocols import Judged
from fv.evaluation.scores import Describer, Description
from fv.model import checkpoint_files, model_record, siamese
from fv.model.model_record import ModelRecord

# Accuracy on parts of the pairs: how the verifier does on dark, blurred, small images, and on
# people with few of them.

_PARTS = 4  # of as equal a number of pairs as the values allow
_FEW_IMAGES = (1, 2, 3, 5, 10, 20)  # where the parts begin by images of a person


@dataclasses.dataclass(frozen=True)
class Slice:
    """Pairs from `low` to `high`, both included: their number, how many are genuine, and the share decided rightly."""

    low: float
    high: float
    pairs: int
    genuine: int
    accuracy: float


def cut_slices(pairs: PairSet, found: Description, right: np.ndarray) -> dict[str, list[Slice]]:
    """Cuts the pairs by each of four values; a pair has the lower value of its two images.

    Args:
      pairs: the pairs.
      found: descriptions of their images.
      right: bool [n], whether a pair was decided rightly.

    Returns:
      By what is measured, slices by rising value; the same thresholds decided all of them.
    """
    lower = {
        "images of the person": pairs.images.of_identity,
        "brightness (mean grey level, 0 to 255)": found.brightness,
        "sharpness (variance of the Laplacian)": found.sharpness,
        "shorter side of the stored image (pixels)": found.side,
    }
    cuts = {}
    for name, values in lower.items():
        of_pair = np.minimum(values[pairs.first], values[pairs.second])
        starts = (
            _FEW_IMAGES
            if values is pairs.images.of_identity
            else np.quantile(of_pair, np.arange(_PARTS) / _PARTS)
        )
        cuts[name] = _cut(of_pair, np.unique(starts), pairs.labels, right)
    return cuts


def _cut(
    values: np.ndarray, starts: np.ndarray, labels: np.ndarray, right: np.ndarray
) -> list[Slice]:
    part = np.searchsorted(starts, values, side="right")
    members = [np.flatnonzero(part == number) for number in np.unique(part)]
    return [
        Slice(
            float(values[inside].min()),
            float(values[inside].max()),
            len(inside),
            int(labels[inside].sum()),
            float(right[inside].mean()),
        )
        for inside in members
    ]


def evaluate_model(options: EvaluateOptions) -> None:
    """Scores the pairs of checked options with the workdir's model, writes all that an evaluation leaves, prints a table.

    Raises:
      UserError: as `fv.evaluation.run.evaluate`.
    """
    record = model_record.load(options.workdir)
    options = pair_sources.treat_as_trained(options, record)
    task = pair_sources.read_pairs(options, record)
    folder = _output_folder(options, task)
    report.claim_outputs(folder, report.OF_MODEL, options)
    exact = options.merge_names is False
    seen = provenance.find_training_identities(
        record, options.workdir, task.scored, allowed=options.allow_seen_identities, exact=exact
    )
    model, step = checkpoint_files.load_model(options.workdir, record, options.checkpoint)
    describer = Describer(
        model,
        record.options,
        _untrained(options, record),
        flip=options.flip,
    )
    task, found, judged = _judge(task, describer, model, options)
    context = _context(options, task, record, step) | {"seen_identities": seen}
    content = _measure(task, found, judged, options) | context
    content["notes"] = _notes(task, judged, seen, record, exact)
    with ownership.staged(folder, report.OF_MODEL) as staging:
        _write(staging, options, task, found, judged[scores.MODEL], content)
    print(figures.render_table(content))


def _untrained(options: EvaluateOptions, record: ModelRecord) -> siamese.Siamese | None:
    if not options.baselines:
        return None
    tf_keras.utils.set_random_seed(options.seed)
    return siamese.build_siamese(record.options, record.identities)


def _judge(
    task: Task, describer: Describer, model: siamese.Siamese, options: EvaluateOptions
) -> tuple[Task, Description, dict[str, Judged]]:
    """The task without pairs that are lost, descriptions of the scored images, and verdicts by who says them."""
    scored, found, similarities = _score(task.scored, describer, model, options, options.pairs_list)
    if task.choosing is None:
        folds = protocols.split_folds(scored)
        judged = {
            name: protocols.cross_validate(said, scored.labels, *folds)
            for name, said in similarities.items()
        }
        return Task(scored, None, task.rule), found, judged
    choosing, _, others = _score(task.choosing, describer, model, options, options.threshold_pairs)
    judged = {
        name: protocols.hold_out(said, scored.labels, others[name], choosing.labels)
        for name, said in similarities.items()
    }
    return Task(scored, choosing, task.rule), found, judged


def _score(
    pairs, describer: Describer, model: siamese.Siamese, options: EvaluateOptions, path: str | None
):
    """`path` is that of the list that names the pairs, None where they are in shards."""
    found = describer.describe(pairs.images, pairs.name)
    pairs = pair_sources.leave_out_broken(
        pairs, found, options.allow_missing, in_list=path is not None
    )
    return pairs, found, scores.score_pairs(pairs, found, model)


def _measure(
    task: Task, found: Description, judged: dict[str, Judged], options: EvaluateOptions
) -> dict:
    """The figures of the model at the top, those of the baselines below."""
    plan, people = figures.BootstrapPlan(options.bootstrap, options.seed), task.scored.people()
    measured = {
        name: figures.measure(verdicts) | figures.measure_intervals(verdicts, people, plan)
        for name, verdicts in judged.items()
    }
    own = measured.pop(scores.MODEL)
    cuts = cut_slices(task.scored, found, judged[scores.MODEL].right)
    return own | {
        "bootstrap": figures.describe_bootstrap(plan),
        "probability": figures.measure_probability(judged[scores.MODEL]),
        "baselines": measured,
        "slices": {name: [vars(part) for part in parts] for name, parts in cuts.items()},
    }


def _context(options: EvaluateOptions, task: Task, record: ModelRecord, step: int) -> dict:
    choosing = task.choosing.name if task.choosing else None
    return {
        "split": task.scored.name,
        "pairs_sha256": task.scored.digest(),
        "threshold_split": choosing,
        "threshold_rule": task.rule,
        "step": step,
        "tfrecords": options.tfrecords,
        "threshold_tfrecords": options.threshold_tfrecords or options.tfrecords,
        "run": provenance.describe_model_run(options, record),
    }


def _notes(
    task: Task, judged: dict[str, Judged], seen: dict, record: ModelRecord, exact: bool
) -> list[str]:
    baselines = {name: verdicts for name, verdicts in judged.items() if name != scores.MODEL}
    notes = [
        *figures.warn_of_similarities(judged[scores.MODEL], baselines),
        provenance.note_training_identities(seen, task.scored),
    ]
    if task.choosing:
        notes += [pair_sources.note_shared(task.scored, task.choosing)]
        notes += [
            provenance.note_shared_people(task.scored, task.choosing),
            provenance.note_threshold_people(record, task.choosing, exact),
        ]
    notes += [task.scored.lost, task.choosing.lost if task.choosing else ""]
    return [note for note in notes if note]


def _output_folder(options: EvaluateOptions, task: Task) -> str:
    """The workdir only where fv.export may take the threshold from there: it knows no folds and no mirrored images."""
    if options.output:
        return options.output
    if options.tfrecords and task.choosing and not options.threshold_pairs and not options.flip:
        return options.workdir
    folds = f"-{options.folds}-folds" if options.folds else ""
    name = os.path.splitext(task.scored.name)[0]
    return os.path.join(options.workdir, f"{name}{folds}{'-flip' if options.flip else ''}")


def _write(
    folder: str,
    options: EvaluateOptions,
    task: Task,
    found: Description,
    judged: Judged,
    content: dict,
) -> None:
    files.save_json(content, os.path.join(folder, workdir.METRICS))
    with files.atomic_open(os.path.join(folder, workdir.EVALUATE_FLAGS)) as file:
        file.write(fv_options.to_flagfile(options))
    scored, images = task.scored, task.scored.images
    columns = {
        "similarity": judged.similarities,
        "label": judged.labels,
        "probability": judged.probabilities,
        "same": judged.same.astype(int),
        "fold": scored.folds,
        "identity_a": [images.identities[image] for image in scored.first],
        "identity_b": [images.identities[image] for image in scored.second],
        "image_a": [images.paths[image] for image in scored.first],
        "image_b": [images.paths[image] for image in scored.second],
    }
    tables.write(os.path.join(folder, workdir.SCORES), pd.DataFrame(columns))
    report.write_report(folder, scored, found.embeddings, judged, content)

"""model_card.json and model_card.md: what an export is, what it was measured on, and what it must not be used for.

After Mitchell et al., Model Cards for Model Reporting (FAT* 2019). Nothing in it depends on when or where it was written.
"""

import os

from fv import files
from fv.model import initial_weights

JSON, MARKDOWN = initial_weights.CARD, "model_card.md"
KEYS = {"fv", "model", "operating_point", "calibration"}  # by which a card is known to be fv's
INTENDED_USE = (
    "Saying whether two cropped face images are likely to show the same person, as one part of a decision that a person "
    "can review and reverse, on images like those the figures below were measured on."
)
BOXES = (
    "the model was trained on images cut to boxes from a CSV, and cannot find the box in a new image: give images that are "
    "already cut to the face's box"
)
UNKNOWN_INPUT = (
    "how the training images were cut and stored is not known (model.json is of an older fv, or the shards do not say): "
    "give images as they are in the shards"
)
LIMITS = (
    "Do not decide about anybody's liberty, work, credit, benefits or asylum by a score alone: at any threshold some "
    "strangers are accepted and some people rejected, at the rates below and at others on other images.",
    "Do not search a crowd or a gallery with it: false accepts grow with the number of comparisons, one for every "
    "1 / FAR strangers on average.",
    "It does not detect faces: it compares the centre of what it is given, be that a face or not, and answers all the same.",
    "It does not detect photographs of photographs, masks or generated faces.",
    "The probability holds where as large a share of pairs is genuine as among the validation pairs. With prior odds o "
    "in place of theirs, multiply p / (1 - p) by o over theirs.",
    "Rates differ between groups of people. Nobody measured that here: measure it on your own pairs before use.",
    "Threshold and probability hold for images like the validation pairs. For another camera, crop or age gap, measure "
    "again: python -m fv.verify --pairs_csv.",
)


def write(card: dict, folder: str) -> None:
    """Writes both files."""
    card = card | {"intended_use": INTENDED_USE, "limits": list(LIMITS)}
    files.save_json(card, os.path.join(folder, JSON))
    with files.atomic_open(os.path.join(folder, MARKDOWN)) as file:
        file.write(to_markdown(card))


def to_markdown(card: dict) -> str:
    """The card as text for people."""
    model, point = card["model"], card["operating_point"]
    accepted = f"{point['impostors_accepted']:,} of {point['impostors']:,} impostor pairs"
    rejected = f"{point['genuine_rejected']:,} of {point['genuine']:,} genuine pairs"
    parts = [
        "# Face verifier",
        f"{model['backbone']} at {model['image_size']} pixels, head {model['head']}, {model['embedding_size']} numbers an "
        f"embedding, {card['step']:,} training steps ({card['checkpoint']} checkpoint, weights averaged by: "
        f"{card['weights_averaged_by']}), exported by fv {card['fv']}.",
        f"## Use\n\n{card['intended_use']}",
        f"## Images\n\n{describe_input(model, card['preprocessing'])}",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in card["limits"]),
        "## Threshold\n\n"
        f"`same` is similarity >= {point['threshold']:.6f}, chosen by: {point['chosen_by']}. On the {point['split']} pairs "
        f"its false accept rate is {point['far']:.4f} ({accepted}), its false reject rate {point['frr']:.4f} ({rejected}).",
        f"## Probability\n\n{_probability(card['calibration'])}",
        f"## Figures\n\n{_figures(card['metrics'])}",
        "## Data\n\n"
        + "\n".join(f"- {name}: {_data(data)}" for name, data in card["data"].items()),
        *_formats(card.get("formats")),
        f"## Training flags\n\n```\n{card['training_flags'].strip()}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def describe_input(model: dict, preprocessing: dict | None) -> str:
    """What images `serving_default` expects, and what the graph does to them.

    Args:
      model: the model's options.
      preprocessing: what the converter did to the training images (`fv.preprocessing`), None where that is not known.
    """
    own = f"the centre square of {model['crop_fraction']:g} of the shorter side, resized to {model['image_size']} pixels"
    if preprocessing is None:
        return f"{UNKNOWN_INPUT[0].upper()}{UNKNOWN_INPUT[1:]}. The graph takes {own}."
    boxes = (
        f"{BOXES[0].upper()}{BOXES[1:]}."
        if preprocessing.get("boxes")
        else "Give whole images, not cut in any way."
    )
    if "store_size" not in preprocessing:
        return f"{boxes} The graph takes {own}."
    part = (
        f"the centre square of {preprocessing['crop_fraction']:g} of the shorter side"
        if "crop_fraction" in preprocessing
        else "the image"
    )
    steps = f"makes {part} smaller by area averages, to a shorter side of {preprocessing['store_size']} pixels"
    return (
        f"{boxes} As the converter did, the graph {steps}, and writes and reads it as JPEG of quality "
        f"{preprocessing['jpeg_quality']}. Of that it takes {own}."
    )


def _probability(calibration: dict) -> str:
    fitted = f"sigmoid({calibration['slope']:.4f} x similarity + {calibration['offset']:.4f})"
    share = f"fitted where {calibration['genuine_share']:.2%} of the pairs are genuine"
    test = calibration["held_out"]
    if not test:
        return f"{fitted}, {share}; not measured on other pairs."
    measured = f"Brier score {test['brier']:.4f}, log loss {test['log_loss']:.4f}, expected calibration error"
    return f"{fitted}, {share}. On {test['pairs']:,} other pairs: {measured} {test['expected_calibration_error']:.4f}."


def _figures(metrics: dict | None) -> str:
    if not metrics:
        return "Not measured: fv.evaluate did not run."
    rows = [("accuracy", "accuracy"), ("AUC", "auc"), ("equal error rate", "eer")]
    lines = [f"- {name}: {metrics[key]:.4f}" for name, key in rows]
    for far, point in metrics["tar_at_far"].items():
        shown = "not measurable on so few pairs" if point["tar"] is None else f"{point['tar']:.4f}"
        lines.append(f"- true accept rate at a false accept rate of {far}: {shown}")
    return f"On {metrics['pairs']:,} {metrics.get('split', 'test')} pairs:\n\n" + "\n".join(lines)


def _formats(rows: list[dict] | None) -> list[str]:
    """A table of the other formats, where there are any."""
    if not rows:
        return []
    lines = [
        "| " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |",
        "|---" * len(rows[0]) + "|",
    ]
    return [
        "## Formats\n\n"
        + "\n".join(lines + ["| " + " | ".join(map(_cell, row.values())) + " |" for row in rows])
    ]


def _cell(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _data(data: dict) -> str:
    return f"{data['folder']}, manifest SHA-256 {data['manifest_sha256'] or 'not known (the folder is gone)'}"

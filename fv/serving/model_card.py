"""Writes model_card.json and model_card.md: what an export is, was measured on, and is not for.

After Mitchell et al., Model Cards for Model Reporting (FAT* 2019). Nothing in a card depends on
when or where it was written.
"""

import os

from fv import files
from fv.model import initial_weights

JSON, MARKDOWN = initial_weights.CARD, "model_card.md"
KEYS = {"fv", "model", "operating_point", "calibration"}  # by which a card of fv is recognised
INTENDED_USE = (
    "Saying whether two cropped face images are likely to show the same person, as one part of a "
    "decision that a person can review and reverse, on images like those the figures below were "
    "measured on."
)
BOXES = (
    "the model was trained on images cut to boxes from a CSV, and cannot find the box in a new "
    "image: give images that are already cut to the face's box"
)
ALIGNED = (
    "`serving_default` expects images that are already cut to one face and aligned, as the "
    "converter does it"
)
NO_DETECTOR = (
    "It does not detect faces: it compares the centre of what it is given, be that a face or not, "
    "and answers all the same."
)
LIMITS = (
    "Do not decide about anybody's liberty, work, credit, benefits or asylum by a score alone: at "
    "any threshold some strangers are accepted and some people rejected, at the rates below and at "
    "others on other images.",
    "Do not search a crowd or a gallery with it: false accepts grow with the number of "
    "comparisons, one for every 1 / FAR strangers on average.",
    NO_DETECTOR,
    "It does not detect photographs of photographs, masks or generated faces.",
    "The probability holds where as large a share of pairs is genuine as among the validation "
    "pairs. With prior odds o in place of theirs, multiply p / (1 - p) by o over theirs.",
    "Rates differ between groups of people. Nobody measured that here: measure it on your own "
    "pairs before use.",
    "Threshold and probability hold for images like the validation pairs. For another camera, crop "
    "or age gap, measure again: python -m fv.verify --pairs_csv.",
)


def write(card: dict, folder: str) -> None:
    """Writes both files of a card to a folder."""
    card = card | {"intended_use": INTENDED_USE, "limits": list(LIMITS)}
    files.save_json(card, os.path.join(folder, JSON))
    with files.atomic_open(os.path.join(folder, MARKDOWN)) as file:
        file.write(to_markdown(card))


def to_markdown(card: dict) -> str:
    """The card as text for people."""
    sections = {
        "Use": card["intended_use"],
        "Images": describe_input(card["model"], card["preprocessing"]),
        "Limits": "\n".join(f"- {limit}" for limit in card["limits"]),
        "Threshold": _describe_threshold(card["operating_point"]),
        "Probability": _describe_probability(card["calibration"]),
        "Figures": _list_figures(card["metrics"]),
        "Data": "\n".join(
            f"- {name}: {data['folder']}, manifest SHA-256 "
            f"{data['manifest_sha256'] or 'not known (the folder is gone)'}"
            for name, data in card["data"].items()
        ),
    }
    if card.get("formats"):
        sections["Formats"] = _tabulate(card["formats"])
    sections["Training flags"] = f"```\n{card['training_flags'].strip()}\n```"
    parts = [f"## {title}\n\n{text}" for title, text in sections.items()]
    return "\n\n".join(["# Face verifier", _describe_model(card), *parts]) + "\n"


def _describe_model(card: dict) -> str:
    model, teachers = card["model"], ", ".join(card.get("external_teachers", ()))
    imitated = f"It imitated {teachers}, whose training people are not known. " if teachers else ""
    return imitated + (
        f"{model['backbone']} at {model['image_size']} pixels, head {model['head']}, "
        f"{model['embedding_size']} numbers an embedding, {card['step']:,} training steps "
        f"({card['checkpoint']} checkpoint, weights averaged by: {card['weights_averaged_by']}), "
        f"exported by fv {card['fv']}."
    )


def describe_input(model: dict, preprocessing: dict) -> str:
    """What images `serving_default` expects, and what the graph does to them.

    Args:
      model: the model's options.
      preprocessing: what the converter did to the training images (`fv.preprocessing`).
    """
    own = (
        f"the centre square of {model['crop_fraction']:g} of the shorter side, resized to "
        f"{model['image_size']} pixels"
    )
    wanted = "Give whole images, not cut in any way."
    if preprocessing.get("boxes"):
        wanted = f"{BOXES[0].upper()}{BOXES[1:]}."
    if preprocessing.get("alignment"):
        made = preprocessing["alignment"]
        wanted = (
            f"{ALIGNED}. For photographs, `fv.verify` finds and aligns the face, and "
            "`serve_aligned` and `embed_aligned` align it by five points. The template is "
            f"InsightFace's, with a margin of {made['margin']:g}. The training faces were found by "
            f"{made['detector']}."
        )
    if "store_size" not in preprocessing:
        return f"{wanted} The graph takes {own}."
    part = "the image"
    if "crop_fraction" in preprocessing:
        part = f"the centre square of {preprocessing['crop_fraction']:g} of the shorter side"
    return (
        f"{wanted} As the converter did, the graph makes {part} smaller by area averages, to a "
        f"shorter side of {preprocessing['store_size']} pixels, and writes and reads it as JPEG of "
        f"quality {preprocessing['jpeg_quality']}. Of that it takes {own}."
    )


def _describe_threshold(point: dict) -> str:
    accepted = f"{point['impostors_accepted']:,} of {point['impostors']:,} impostor pairs"
    rejected = f"{point['genuine_rejected']:,} of {point['genuine']:,} genuine pairs"
    return (
        f"`same` is similarity >= {point['threshold']:.6f}, chosen by: {point['chosen_by']}. "
        f"On the {point['split']} pairs its false accept rate is {point['far']:.4f} ({accepted}), "
        f"its false reject rate {point['frr']:.4f} ({rejected})."
    )


def _describe_probability(calibration: dict) -> str:
    fitted = (
        f"sigmoid({calibration['slope']:.4f} x similarity + {calibration['offset']:.4f}), fitted "
        f"where {calibration['genuine_share']:.2%} of the pairs are genuine"
    )
    test = calibration["held_out"]
    if not test:
        return f"{fitted}; not measured on other pairs."
    return (
        f"{fitted}. On {test['pairs']:,} other pairs: Brier score {test['brier']:.4f}, log loss "
        f"{test['log_loss']:.4f}, expected calibration error "
        f"{test['expected_calibration_error']:.4f}."
    )


def _list_figures(metrics: dict | None) -> str:
    if not metrics:
        return "Not measured: fv.evaluate did not run."
    rows = [("accuracy", "accuracy"), ("AUC", "auc"), ("equal error rate", "eer")]
    lines = [f"- {name}: {metrics[key]:.4f}" for name, key in rows]
    for far, point in metrics["tar_at_far"].items():
        shown = "not measurable on so few pairs" if point["tar"] is None else f"{point['tar']:.4f}"
        lines.append(f"- true accept rate at a false accept rate of {far}: {shown}")
    return f"On {metrics['pairs']:,} {metrics.get('split', 'test')} pairs:\n\n" + "\n".join(lines)


def _tabulate(rows: list[dict]) -> str:
    """A Markdown table of the comparison of formats."""

    def show(value: str | float | None) -> str:
        return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"

    cells = [[name.replace("_", " ") for name in rows[0]], ["---"] * len(rows[0])]
    cells += [[show(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)

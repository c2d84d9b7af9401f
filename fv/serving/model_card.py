"""Writes model_card.json and model_card.md: what an export is, was measured on, and is not for.

After Mitchell et al., Model Cards for Model Reporting (FAT* 2019). Nothing in a card depends on
when or where it was written.
"""

import os

from fv import files
from fv.serving.contract import CARD

MARKDOWN = "model_card.md"
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
    files.save_json(card, os.path.join(folder, CARD))
    with files.atomic_open(os.path.join(folder, MARKDOWN)) as file:
        file.write(_to_markdown(card))


def _to_markdown(card: dict) -> str:
    # Only here: fv.verify does without templates.
    from fv import page

    return page.render(
        "model_card.md",
        expected=describe_input(card["model"], card["preprocessing"]),
        point=card["operating_point"],
        **({"formats": None} | card),
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

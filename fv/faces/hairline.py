"""Where hair ends on the forehead and at the temples. Lengths are in face units, judged by eye."""

import math

import numpy as np

from fv.faces import shapes
from fv.faces.hairstyles import Hair
from fv.faces.identity import Identity
from fv.faces.view import View

TEMPLE_FALL, TEMPLE_POWER = 0.55, 6  # how the line drops at the temples
PEAK_WIDTH = 0.10
RECEDING_PLACE, RECEDING_WIDTH, RECEDING_DEPTH = 0.55, 0.30, 0.5
BALD_FROM = 0.75  # recession from which the crown is bare
BALD_ACROSS = 0.98  # how far around a bald crown reaches
SWEEP_GAIN, SWEEP_LIFT = 1.6, 0.02  # of parted hair, on its longer side
SHORT_SIDE = 0.5  # fall on the shorter side against the longer
CLEAR_OF_EYES = 0.13  # how high over the eyes hair on the forehead ends at least
FRINGE_HALF = 0.80  # of the head's width
FRINGE_EDGE = 4.0  # slope of its ends
LOCK_DEPTH, LOCK_PITCH = 0.025, 14.0
STEEPENING, STEEPENING_POWER = (
    2.0,
    4,
)  # turns height over the line into distance where the line is steep


def bare(view: View, who: Identity) -> np.ndarray:
    """Signed distance to the hairline, positive on the bare face, negative where hair grows."""
    hair = who.hair
    across = view.around / (hair.width * who.head.width)
    if hair.recession > BALD_FROM:
        return BALD_ACROSS - across
    steepness = 1.0 + STEEPENING * across**STEEPENING_POWER
    return (view.face_y - _line(view, who, across)) / steepness


def _line(view: View, who: Identity, across: np.ndarray) -> np.ndarray:
    """Height (y) of the hairline at every pixel's place across the face."""
    hair = who.hair
    top, lowest = -hair.hairline * who.head.crown, who.eyes.height - CLEAR_OF_EYES
    line = (
        top + TEMPLE_FALL * across**TEMPLE_POWER + hair.peak * shapes.hill(view.face_x, PEAK_WIDTH)
    )
    line -= RECEDING_DEPTH * hair.recession * shapes.hill(across - RECEDING_PLACE, RECEDING_WIDTH)
    if hair.parting:
        line = np.maximum(
            line, np.minimum(top + _parted(view.face_x / who.head.width, hair), lowest)
        )
    if hair.fringe:
        line = np.maximum(
            line, np.minimum(top + _fringe(view.face_x, hair, who.head.width), lowest)
        )
    return line


def _parted(across: np.ndarray, hair: Hair) -> np.ndarray:
    """How far hair falls below its roots, to either side of a parting."""
    along = (hair.side_parted * across + hair.parting_place) / (1.0 + hair.parting_place)
    longer = SWEEP_GAIN * hair.sweep * np.sqrt(np.clip(along, 0.0, 1.0)) - SWEEP_LIFT
    shorter = SHORT_SIDE * hair.sweep * np.sqrt(np.clip(-2.0 * along, 0.0, 1.0))
    return np.maximum(longer, shorter)


def _fringe(x: np.ndarray, hair: Hair, head_width: float) -> np.ndarray:
    """How far a fringe falls below its roots."""
    locks = LOCK_DEPTH * np.abs(np.sin(LOCK_PITCH * x + math.pi * hair.strands[0]))
    ends = FRINGE_EDGE * np.maximum(np.abs(x) - FRINGE_HALF * head_width, 0.0)
    return hair.fringe_depth + hair.fringe_slant * x - locks - ends

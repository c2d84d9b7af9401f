"""Hairstyles: a table of kinds, and the draw of one person's hair from it.

Lengths are in face units: half of the frame's width is 1 where the face is shown at its usual size.
"""

import dataclasses

import numpy as np

from fv.faces import ranges

LONG = 2.0  # past the lower edge of every frame


@dataclasses.dataclass(frozen=True)
class Style:
    """The ranges (low, high) within which people who wear one kind of hair differ."""

    top: tuple[float, float]  # height above the skull
    side: tuple[float, float]  # thickness at the sides
    end: tuple[float, float]  # where the sides stop, below the centre of the head
    curl: tuple[float, float]  # 0 straight to 1 tight curls
    density: tuple[float, float] = (1.0, 1.0)  # opacity, under 1 where the skin shows through
    recession: tuple[float, float] = (0.0, 0.08)  # how far the temples are bare
    fringe: float = 0.0  # probability of a fringe
    parting: float = 0.0  # probability of a parting at the side
    bun: float = 0.0  # probability of a bun on the crown
    beard: float = 0.0  # probability of facial hair
    weight: float = 1.0  # how common it is


STYLES: dict[str, Style] = {
    "bald": Style((0, 0), (0, 0), (-3, -3), (0, 0), beard=0.6, weight=0.8),
    "horseshoe": Style(
        (0.0, 0.01),
        (0.03, 0.07),
        (0.08, 0.2),
        (0.1, 0.8),
        recession=(0.8, 0.95),
        beard=0.5,
        weight=0.7,
    ),
    "buzz": Style(
        (0.01, 0.02), (0.0, 0.01), (-0.05, 0.12), (0.5, 1), (0.5, 0.8), (0, 0.2), beard=0.55
    ),
    "crop": Style(
        (0.05, 0.11), (0.01, 0.04), (-0.08, 0.15), (0, 0.3), fringe=0.4, beard=0.45, weight=1.2
    ),
    "side part": Style(
        (0.06, 0.13), (0.02, 0.05), (-0.05, 0.18), (0, 0.2), parting=1.0, beard=0.35, weight=1.2
    ),
    "quiff": Style(
        (0.14, 0.24), (0.0, 0.03), (-0.1, 0.12), (0, 0.5), recession=(0.05, 0.2), beard=0.45
    ),
    "receding": Style(
        (0.03, 0.07), (0.02, 0.05), (0.0, 0.18), (0, 0.5), recession=(0.25, 0.5), beard=0.5
    ),
    "curls": Style((0.10, 0.17), (0.05, 0.12), (0.0, 0.25), (0.6, 0.9), fringe=0.4, beard=0.3),
    "afro": Style((0.18, 0.30), (0.16, 0.30), (0.15, 0.4), (0.9, 1.0), beard=0.2, weight=0.8),
    "bob": Style(
        (0.06, 0.13), (0.06, 0.14), (0.45, 0.75), (0, 0.2), fringe=0.6, parting=0.5, weight=1.3
    ),
    "waves": Style(
        (0.07, 0.14), (0.08, 0.18), (0.6, 0.9), (0.3, 0.6), fringe=0.25, parting=0.7, weight=1.2
    ),
    "long": Style(
        (0.04, 0.10), (0.03, 0.10), (LONG, LONG), (0, 0.15), fringe=0.4, parting=0.5, weight=1.5
    ),
    "long waves": Style(
        (0.07, 0.13), (0.10, 0.22), (LONG, LONG), (0.35, 0.8), fringe=0.25, parting=0.6, weight=1.3
    ),
    "tied": Style(
        (0.01, 0.04),
        (0.0, 0.02),
        (0.0, 0.12),
        (0, 0.1),
        (0.92, 1),
        (0, 0.12),
        0.25,
        0.4,
        bun=0.6,
        weight=1.2,
    ),
}


@dataclasses.dataclass(frozen=True)
class Hair:
    """One person's hair, in face units."""

    style: str
    top: float
    side: float
    end: float
    curl: float
    density: float
    recession: float
    fringe: bool
    parting: bool
    bun: bool
    hairline: float = ranges.between(
        0.50, 0.68
    )  # its height over the head's centre, as a share of the crown's height
    width: float = ranges.between(
        0.84, 0.97
    )  # of the bare face at the temples, as a share of the head's
    peak: float = ranges.up_to(0.3, 0.05, 0.12)  # widow's peak
    side_parted: float = ranges.one_of(-1.0, 1.0)
    parting_place: float = ranges.between(0.05, 0.6)  # of the half-width
    sweep: float = ranges.between(0.12, 0.32)  # how far parted hair falls over the forehead
    fringe_depth: float = ranges.between(0.18, 0.33)  # below the hairline
    fringe_slant: float = ranges.between(-0.2, 0.2)
    strands: tuple[float, ...] = ranges.points(6)  # phases of its texture


def draw_hair(rng: np.random.Generator) -> Hair:
    """Draws a style by its weight, then a person's hair within the style's ranges."""
    name = ranges.pick(rng, tuple(STYLES), [style.weight for style in STYLES.values()])
    style = STYLES[name]
    lengths = {key: float(rng.uniform(*getattr(style, key))) for key in LENGTHS}
    switches = {key: bool(rng.random() < getattr(style, key)) for key in SWITCHES}
    return ranges.draw(Hair, rng, style=name, **lengths, **switches)


LENGTHS = ("top", "side", "end", "curl", "density", "recession")
SWITCHES = ("fringe", "parting", "bun")

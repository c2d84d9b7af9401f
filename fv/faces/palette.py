"""The colours of people: skin, hair, irises, lips. All are RGB in [0, 1], sRGB-encoded as they are painted."""

import dataclasses

import numpy as np

from fv.faces import ranges

RGB = tuple[float, float, float]

SKIN_TONES: tuple[RGB, ...] = (  # from very light to deep; a tone in between is interpolated
    (0.97, 0.85, 0.77),
    (0.93, 0.76, 0.64),
    (0.86, 0.66, 0.50),
    (0.75, 0.53, 0.37),
    (0.57, 0.37, 0.25),
    (0.40, 0.26, 0.19),
)
HAIR_COLOURS: dict[str, RGB] = {
    "black": (0.07, 0.06, 0.07),
    "dark brown": (0.18, 0.11, 0.08),
    "brown": (0.33, 0.20, 0.12),
    "chestnut": (0.43, 0.20, 0.11),
    "copper": (0.68, 0.29, 0.10),
    "dark blond": (0.58, 0.44, 0.26),
    "blond": (0.84, 0.68, 0.40),
    "platinum": (0.93, 0.87, 0.72),
    "grey": (0.52, 0.52, 0.54),
    "white": (0.88, 0.88, 0.89),
    "dyed": (0.0, 0.0, 0.0),  # replaced by one of DYES
}
DYES: tuple[RGB, ...] = (
    (0.75, 0.12, 0.30),
    (0.16, 0.32, 0.66),
    (0.40, 0.20, 0.55),
    (0.10, 0.48, 0.42),
    (0.90, 0.48, 0.62),
)
LIGHT_SKIN_HAIR = (2, 3, 3, 2, 2, 3, 3, 1, 2, 1.5, 1)  # weights in the order of HAIR_COLOURS
DARK_SKIN_HAIR = (6, 4, 2, 1, 0.3, 0.2, 0.4, 0.3, 2, 1.2, 1)
DARK_SKIN_FROM = 0.5  # of the way from the lightest tone to the deepest
IRISES: tuple[RGB, ...] = (
    (0.16, 0.09, 0.05),
    (0.36, 0.20, 0.09),
    (0.45, 0.36, 0.14),
    (0.28, 0.47, 0.22),
    (0.22, 0.48, 0.72),
    (0.52, 0.60, 0.66),
)
LIGHT_SKIN_IRISES = (2, 3, 2, 2, 3, 2)
DARK_SKIN_IRISES = (6, 5, 1.5, 0.5, 0.4, 0.4)
LIP_TINT: RGB = (0.74, 0.26, 0.28)
UNDERTONE = 0.03  # largest shift of red against blue


@dataclasses.dataclass(frozen=True)
class Colours:
    """The colours of one identity."""

    skin: RGB
    hair: RGB
    brows: RGB
    iris: RGB
    lips: RGB


def draw_colours(rng: np.random.Generator) -> Colours:
    """Draws colours that go together: hair and irises depend on how dark the skin is."""
    darkness = float(rng.random())
    dark = darkness > DARK_SKIN_FROM
    skin = _skin(darkness, float(rng.uniform(-UNDERTONE, UNDERTONE)))
    hair = _hair(rng, DARK_SKIN_HAIR if dark else LIGHT_SKIN_HAIR)
    iris = ranges.pick(rng, IRISES, DARK_SKIN_IRISES if dark else LIGHT_SKIN_IRISES)
    lips = mix(scale(skin, 0.88), LIP_TINT, float(rng.uniform(0.15, 0.75)))
    brows = mix(
        scale(hair, float(rng.uniform(0.5, 0.9))), scale(skin, 0.35), float(rng.uniform(0.1, 0.4))
    )
    return Colours(skin, hair, brows, iris, lips)


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """The colour `share` of the way from the first to the second."""
    return tuple(a + share * (b - a) for a, b in zip(first, second, strict=True))


def scale(colour: RGB, factor: float) -> RGB:
    """The colour made darker (factor under 1) or brighter."""
    return tuple(factor * part for part in colour)


def _skin(darkness: float, undertone: float) -> RGB:
    place = darkness * (len(SKIN_TONES) - 1)
    index = min(int(place), len(SKIN_TONES) - 2)
    red, green, blue = mix(SKIN_TONES[index], SKIN_TONES[index + 1], place - index)
    return red + undertone, green, blue - undertone


def _hair(rng: np.random.Generator, weights: tuple[float, ...]) -> RGB:
    name = ranges.pick(rng, tuple(HAIR_COLOURS), weights)
    dye = ranges.pick(rng, DYES)
    return scale(dye if name == "dyed" else HAIR_COLOURS[name], float(rng.uniform(0.85, 1.1)))

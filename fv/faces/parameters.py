"""Parameters of a synthetic face: what fixes a person, and what each image of them varies.

A person is drawn from (seed, person) and an image from (seed, person, image), so neither depends on
how many others there are. Lengths are in face units: half of the frame's width is about 1, y points
down, and the origin is the centre of the head.
"""

import dataclasses
import typing
from collections.abc import Callable, Sequence

import numpy as np

PERSON_STREAM, IMAGE_STREAM = 1, 2  # keep the draws of people and images apart

RGB = tuple[float, float, float]  # in [0, 1], sRGB-encoded


def between(low: float, high: float) -> typing.Any:
    """A field drawn uniformly from [low, high)."""
    return _field(lambda rng: float(rng.uniform(low, high)))


def sometimes(probability: float, low: float, high: float) -> typing.Any:
    """A field that is uniform in [low, high) with this probability, else 0."""
    return _field(lambda rng: float((rng.random() < probability) * rng.uniform(low, high)))


def chance(probability: float) -> typing.Any:
    """A field that is True with this probability."""
    return _field(lambda rng: bool(rng.random() < probability))


def several(count: int, low: float = -1.0, high: float = 1.0) -> typing.Any:
    """A field of `count` uniform numbers in [low, high), a tuple."""
    return _field(lambda rng: tuple(map(float, rng.uniform(low, high, count))))


def part(cls: type) -> typing.Any:
    """A field that is a dataclass of such fields."""
    return _field(lambda rng: draw(cls, rng))


def draw(cls: type, rng: np.random.Generator, **given: typing.Any) -> typing.Any:
    """Builds a dataclass: draws each field that has a range, except those that are given."""
    fields = {each.name: each.metadata.get("draw") for each in dataclasses.fields(cls)}
    drawn = {name: f(rng) for name, f in fields.items() if f and name not in given}
    return cls(**given, **drawn)


def pick(
    rng: np.random.Generator, values: Sequence, weights: Sequence[float] | None = None
) -> typing.Any:
    """Draws one of `values`, evenly or by `weights` (any positive numbers)."""
    shares = None if weights is None else np.asarray(weights, float) / np.sum(weights)
    return values[int(rng.choice(len(values), p=shares))]


def mix(first: RGB, second: RGB, share: float) -> RGB:
    """The colour `share` of the way from the first to the second."""
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return red, green, blue


def scale(colour: RGB, factor: float) -> RGB:
    """The colour made darker (factor under 1) or brighter."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _field(drawer: Callable[[np.random.Generator], typing.Any]) -> typing.Any:
    return dataclasses.field(metadata={"draw": drawer})


def _palette(text: str) -> list[RGB]:
    """Colours from hexadecimal RRGGBB, separated by spaces."""
    words = map(bytes.fromhex, text.split())
    return [(red / 255, green / 255, blue / 255) for red, green, blue in words]


SKIN_TONES = _palette("f7d9c4 edc2a3 dba880 bf875e 915e40 664230")  # lightest to deepest
HAIR_COLOURS = _palette("120f12 2e1c14 54331f 6e331c ad4a1a 947042 d6ad66 eddeb8 85858a e0e0e3")
IRIS_COLOURS = _palette("29170d 5c3317 735c24 477838 387ab8 8599a8")
# Weights of the hair and iris colours, first for light skin, then for dark skin.
HAIR_WEIGHTS = ((2, 3, 3, 2, 2, 3, 3, 1, 2, 1.5), (6, 4, 2, 1, 0.3, 0.2, 0.4, 0.3, 2, 1.2))
IRIS_WEIGHTS = ((2, 3, 2, 2, 3, 2), (6, 5, 1.5, 0.5, 0.4, 0.4))
BEARDS = ("stubble", "moustache", "full")
LIP_TINT: RGB = (0.74, 0.26, 0.28)


@dataclasses.dataclass(frozen=True)
class Style:
    """A hairstyle: the ranges (low, high) of its parameters, and probabilities."""

    top: tuple[float, float]  # height above the skull
    side: tuple[float, float]  # thickness at the sides
    end: tuple[float, float]  # where the sides end, below the centre of the head
    curl: tuple[float, float] = (0.0, 0.2)  # 0 straight to 1 tight curls
    fringe: float = 0.0  # probability of a fringe
    parting: float = 0.0  # probability of a parting
    beard: float = 0.0  # probability of facial hair
    weight: float = 1.0  # how common it is


STYLES = {
    "bald": Style((0, 0), (0, 0), (-3, -3), beard=0.6, weight=0.8),
    "buzz": Style((0.01, 0.02), (0, 0.01), (-0.05, 0.12), (0.5, 1), beard=0.55),
    "crop": Style((0.05, 0.11), (0.01, 0.04), (-0.08, 0.15), fringe=0.4, beard=0.45, weight=1.2),
    "side part": Style((0.06, 0.13), (0.02, 0.05), (-0.05, 0.18), parting=1, beard=0.35),
    "quiff": Style((0.14, 0.24), (0, 0.03), (-0.1, 0.12), (0, 0.5), beard=0.45),
    "curls": Style((0.1, 0.17), (0.05, 0.12), (0, 0.25), (0.6, 0.9), fringe=0.4, beard=0.3),
    "afro": Style((0.18, 0.3), (0.16, 0.3), (0.15, 0.4), (0.9, 1), beard=0.2, weight=0.8),
    "bob": Style((0.06, 0.13), (0.06, 0.14), (0.45, 0.75), fringe=0.6, parting=0.5, weight=1.3),
    "waves": Style((0.07, 0.14), (0.08, 0.18), (0.6, 0.9), (0.3, 0.6), fringe=0.25, parting=0.7),
    "long": Style((0.04, 0.1), (0.03, 0.1), (2, 2), fringe=0.4, parting=0.5, weight=1.5),
    "long waves": Style((0.07, 0.13), (0.1, 0.22), (2, 2), (0.35, 0.8), parting=0.6),
}


@dataclasses.dataclass(frozen=True)
class Head:
    width: float = between(0.50, 0.66)  # half, at the cheekbones
    crown: float = between(0.72, 0.86)  # height above the centre
    chin: float = between(0.66, 0.88)  # depth below the centre
    taper: float = between(0.04, 0.42)  # how much narrower the jaw is than the cheekbones
    squareness: float = between(2.0, 3.6)  # exponent of the jaw's curve: 2 is oval
    cheeks: float = between(-0.05, 0.09)  # fullness halfway down
    cheekbones: float = between(0.015, 0.065)  # their relief
    neck: float = between(0.50, 0.80)  # of the head's width
    ear_size: float = between(0.10, 0.19)  # half of their height
    ear_reach: float = between(-0.01, 0.08)  # beyond the outline
    ear_height: float = between(0.02, 0.12)  # of their centre below the eyes


@dataclasses.dataclass(frozen=True)
class Eyes:
    height: float = between(-0.10, 0.04)
    spacing: float = between(0.20, 0.31)  # from the middle of the face
    width: float = between(0.105, 0.170)  # half
    opening: float = between(0.052, 0.095)  # half, wide awake
    tilt: float = between(-0.24, 0.24)  # slope, positive where the outer corners are higher
    iris: float = between(0.052, 0.080)  # radius
    lashes: float = between(0.012, 0.032)  # thickness of the lash line
    depth: float = between(0.0, 1.0)  # how deep-set they are


@dataclasses.dataclass(frozen=True)
class Brows:
    gap: float = between(0.115, 0.20)  # above the eyes
    thickness: float = between(0.016, 0.058)
    length: float = between(0.12, 0.20)  # half
    arch: float = between(0.0, 0.075)
    tilt: float = between(-0.22, 0.22)
    taper: float = between(0.1, 0.85)  # how much thinner the outer end is
    density: float = between(0.55, 1.0)


@dataclasses.dataclass(frozen=True)
class Nose:
    length: float = between(0.36, 0.52)  # of the way from the eyes to the chin
    width: float = between(0.075, 0.155)  # half, at the wings
    bridge: float = between(0.030, 0.070)  # half
    height: float = between(0.10, 0.23)  # of the tip over the face
    tip: float = between(0.045, 0.085)  # radius
    upturn: float = between(-0.02, 0.035)  # how much the nostrils show


@dataclasses.dataclass(frozen=True)
class Mouth:
    drop: float = between(0.17, 0.26)  # below the nose, of the way from the eyes to the chin
    width: float = between(0.13, 0.25)  # half
    upper: float = between(0.015, 0.068)  # the lips' thickness
    lower: float = between(0.025, 0.092)
    bow: float = between(0.0, 0.5)  # depth of the notch in the upper lip
    corners: float = between(-0.035, 0.030)  # positive where they point down


@dataclasses.dataclass(frozen=True)
class Hair:
    style: str  # this and the next seven depend on `STYLES`
    top: float
    side: float
    end: float
    curl: float
    fringe: bool
    parting: bool
    beard: str  # one of BEARDS, or "" without
    hairline: float = between(0.50, 0.68)  # its height, as a share of the crown's
    width: float = between(0.84, 0.97)  # of the bare face at the temples, of the head's
    parted_right: bool = chance(0.5)
    parting_place: float = between(0.05, 0.6)  # of the half-width
    sweep: float = between(0.12, 0.32)  # how far parted hair falls over the forehead
    fringe_depth: float = between(0.18, 0.33)  # below the hairline
    fringe_slant: float = between(-0.2, 0.2)
    phases: tuple[float, ...] = several(5)  # of the strands
    moustache: float = between(0.03, 0.07)  # thickness
    beard_line: float = between(0.0, 0.16)  # how far up the cheeks a full beard grows


@dataclasses.dataclass(frozen=True)
class Skin:
    freckles: float = sometimes(0.25, 0.4, 1.0)
    moles: tuple[float, ...] = several(6)  # x, y of three, in shares of the face
    mole_count: float = between(0.0, 3.2)  # rounded down
    shine: float = between(0.2, 1.0)


@dataclasses.dataclass(frozen=True)
class Colours:
    skin: RGB
    hair: RGB
    brows: RGB
    iris: RGB
    lips: RGB


@dataclasses.dataclass(frozen=True)
class Person:
    """What all images of one person share."""

    hair: Hair
    colours: Colours
    head: Head = part(Head)
    eyes: Eyes = part(Eyes)
    brows: Brows = part(Brows)
    nose: Nose = part(Nose)
    mouth: Mouth = part(Mouth)
    skin: Skin = part(Skin)

    @property
    def nose_base(self) -> float:
        """y of the underside of the nose."""
        return self.eyes.height + self.nose.length * (self.head.chin - self.eyes.height)

    @property
    def mouth_height(self) -> float:
        """y of the line between the closed lips."""
        return self.nose_base + self.mouth.drop * (self.head.chin - self.eyes.height)


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What differs from image to image. Colours are drawn as RGB, angles are in degrees."""

    yaw: float = between(-27, 27)  # positive to the image's right
    pitch: float = between(-11, 11)  # positive looks down
    roll: float = between(-9, 9)  # clockwise
    scale: float = between(0.88, 1.08)
    shift_x: float = between(-0.12, 0.12)  # of half the frame's width
    shift_y: float = between(-0.10, 0.12)
    smile: float = between(-0.3, 1.0)
    mouth_open: float = sometimes(0.45, 0.1, 1.0)
    brow_raise: float = between(-0.5, 1.0)
    frown: float = sometimes(0.15, 0.2, 1.0)
    lids: float = between(0.62, 1.15)  # 1 is awake, 0.6 is half closed
    gaze: tuple[float, ...] = several(2)  # x, y
    azimuth: float = between(-68, 68)  # of the light, positive from the image's right
    elevation: float = between(-15, 60)
    ambient: float = between(0.46, 0.80)  # share of the light that has no direction
    intensity: float = between(0.86, 1.18)
    warmth: float = between(-0.08, 0.08)  # gain of red, loss of blue
    tint: float = between(-0.03, 0.03)  # gain of green
    backdrop: tuple[float, ...] = several(6, 0.05, 0.95)  # two colours
    backdrop_angle: float = between(-180, 180)  # of the gradient between them
    blobs: tuple[float, ...] = several(20)  # x, y, size, brightness, hue of four
    stripes: float = sometimes(0.3, 0.1, 0.4)  # contrast
    stripe_pitch: float = between(4, 18)  # radians across half of the frame
    clothes: RGB = several(3, 0.05, 0.9)
    collar: float = between(0.86, 1.02)  # y of its middle
    glasses: bool = chance(0.2)
    frame: RGB = several(3, 0.03, 0.45)
    blur: float = between(0.0, 0.0075)  # standard deviation, of the frame's width
    noise: float = between(0.004, 0.025)  # standard deviation, of full scale
    gamma: float = between(0.87, 1.15)
    contrast: float = between(0.84, 1.14)
    saturation: float = between(0.86, 1.14)
    quality: float = between(40, 96)  # of the JPEG
    noise_seed: float = between(0, 2**31)


def draw_person(seed: int, person: int) -> Person:
    """Draws person number `person` (from 0) of the world that `seed` (not negative) fixes."""
    rng = np.random.default_rng((seed, PERSON_STREAM, person))
    name = pick(rng, list(STYLES), [style.weight for style in STYLES.values()])
    style = STYLES[name]
    lengths = ("top", "side", "end", "curl")
    given = {key: float(rng.uniform(*getattr(style, key))) for key in lengths}
    fringe, parting, bearded = (rng.random(3) < (style.fringe, style.parting, style.beard)).tolist()
    beard = pick(rng, BEARDS) if bearded else ""
    hair = draw(Hair, rng, style=name, fringe=fringe, parting=parting, beard=beard, **given)
    return draw(Person, rng, hair=hair, colours=_draw_colours(rng))


def draw_appearance(seed: int, person: int, image: int) -> Appearance:
    """Draws the circumstances of image number `image` (from 0) of a person."""
    return draw(Appearance, np.random.default_rng((seed, IMAGE_STREAM, person, image)))


def _draw_colours(rng: np.random.Generator) -> Colours:
    """Draws colours that go together: hair and irises depend on how dark the skin is."""
    darkness, undertone = float(rng.random()), float(rng.uniform(-0.03, 0.03))
    place = darkness * (len(SKIN_TONES) - 1)
    red, green, blue = mix(SKIN_TONES[int(place)], SKIN_TONES[int(place) + 1], place % 1)
    skin = (red + undertone, green, blue - undertone)
    dark = int(darkness > 0.5)
    hair = scale(pick(rng, HAIR_COLOURS, HAIR_WEIGHTS[dark]), float(rng.uniform(0.85, 1.1)))
    iris = pick(rng, IRIS_COLOURS, IRIS_WEIGHTS[dark])
    lips = mix(scale(skin, 0.88), LIP_TINT, float(rng.uniform(0.15, 0.75)))
    brow_shade, skin_share = float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.1, 0.4))
    brows = mix(scale(hair, brow_shade), scale(skin, 0.35), skin_share)
    return Colours(skin, hair, brows, iris, lips)

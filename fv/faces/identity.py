"""Who somebody is: the parameters that every image of one person shares.

Lengths are in face units (half of the frame's width is 1), y points down, and the head's centre is the origin. The ranges
are wide and independent, so that two people drawn at random seldom look alike.
"""

import dataclasses

import numpy as np

from fv.faces import hairstyles, palette, ranges

STREAM = 1  # keeps the draws of identities apart from those of images


@dataclasses.dataclass(frozen=True)
class Head:
    width: float = ranges.between(0.50, 0.66)  # half, at the cheekbones
    crown: float = ranges.between(0.72, 0.86)  # height above the centre
    chin: float = ranges.between(0.66, 0.88)  # depth below the centre
    taper: float = ranges.between(0.04, 0.42)  # how much narrower the jaw is than the cheekbones
    squareness: float = ranges.between(
        2.0, 3.6
    )  # exponent of the jaw's curve: 2 oval, more is squarer
    cheeks: float = ranges.between(-0.05, 0.09)  # fullness halfway down
    cheekbones: float = ranges.between(0.0, 1.0)  # relief
    cleft: float = ranges.up_to(0.25, 0.4, 1.0)  # of the chin
    neck: float = ranges.between(0.50, 0.80)  # of the head's width


@dataclasses.dataclass(frozen=True)
class Ears:
    size: float = ranges.between(0.10, 0.19)  # half of their height
    protrusion: float = ranges.between(-0.01, 0.08)
    height: float = ranges.between(0.02, 0.12)  # of their centre below the eyes
    ring: bool = ranges.chance(0.15)


@dataclasses.dataclass(frozen=True)
class Eyes:
    height: float = ranges.between(-0.10, 0.04)
    spacing: float = ranges.between(0.20, 0.31)  # from the middle of the face
    width: float = ranges.between(0.105, 0.170)  # half
    opening: float = ranges.between(0.052, 0.095)  # half, wide awake
    tilt: float = ranges.between(-0.24, 0.24)  # slope, positive where the outer corners are higher
    iris: float = ranges.between(0.052, 0.080)  # radius
    fold: float = ranges.between(0.0, 1.0)  # how visible the lid's fold is
    bags: float = ranges.between(0.0, 1.0)
    lashes: float = ranges.between(0.012, 0.032)  # thickness of the lash line
    depth: float = ranges.between(0.0, 1.0)  # how deep-set they are


@dataclasses.dataclass(frozen=True)
class Brows:
    gap: float = ranges.between(0.115, 0.20)  # above the eyes
    thickness: float = ranges.between(0.016, 0.058)
    length: float = ranges.between(0.12, 0.20)  # half
    arch: float = ranges.between(0.0, 0.075)
    tilt: float = ranges.between(-0.22, 0.22)
    taper: float = ranges.between(0.1, 0.85)  # how much thinner the outer end is
    density: float = ranges.between(0.55, 1.0)


@dataclasses.dataclass(frozen=True)
class Nose:
    length: float = ranges.between(0.36, 0.52)  # of the way from the eyes to the chin
    width: float = ranges.between(0.075, 0.155)  # half, at the wings
    bridge: float = ranges.between(0.030, 0.070)  # half
    height: float = ranges.between(0.10, 0.23)  # of the tip over the face
    tip: float = ranges.between(0.045, 0.085)  # radius
    wings: float = ranges.between(0.3, 1.0)
    upturn: float = ranges.between(-0.02, 0.035)  # how much the nostrils show


@dataclasses.dataclass(frozen=True)
class Mouth:
    drop: float = ranges.between(
        0.17, 0.26
    )  # below the nose, as a share of the way from the eyes to the chin
    width: float = ranges.between(0.13, 0.25)  # half
    upper: float = ranges.between(0.015, 0.068)  # the lips' thickness
    lower: float = ranges.between(0.025, 0.092)
    bow: float = ranges.between(0.0, 0.5)  # depth of the notch in the upper lip
    corners: float = ranges.between(-0.035, 0.030)  # positive where they point down


@dataclasses.dataclass(frozen=True)
class Beard:
    """Facial hair; nobody wears what `worn` forbids."""

    worn: bool
    kind: str = ranges.one_of("stubble", "moustache", "goatee", "full")
    length: float = ranges.between(0.02, 0.12)  # of a full beard, below the chin
    moustache: float = ranges.between(0.03, 0.07)  # thickness
    line: float = ranges.between(0.0, 0.16)  # how far up the cheeks a full beard grows


@dataclasses.dataclass(frozen=True)
class Marks:
    """What the skin carries. Places are in [-1, 1), fractions of the face's half-width and half-height."""

    freckles: float = ranges.up_to(0.25, 0.4, 1.0)
    moles: tuple[float, ...] = ranges.points(6)  # x, y of three
    mole_count: int = ranges.one_of(0, 1, 2, 3, weights=(4, 3, 2, 1))
    scar: bool = ranges.chance(0.12)
    scar_place: tuple[float, ...] = ranges.points(3)  # x, y, direction
    blush: float = ranges.between(0.0, 1.0)
    age: float = ranges.up_to(0.45, 0.2, 1.0)  # depth of the lines
    shine: float = ranges.between(0.2, 1.0)


@dataclasses.dataclass(frozen=True)
class Identity:
    """One person."""

    head: Head
    ears: Ears
    eyes: Eyes
    brows: Brows
    nose: Nose
    mouth: Mouth
    hair: hairstyles.Hair
    beard: Beard
    marks: Marks
    colours: palette.Colours

    @property
    def nose_base(self) -> float:
        """y of the underside of the nose."""
        return self.eyes.height + self.nose.length * (self.head.chin - self.eyes.height)

    @property
    def mouth_height(self) -> float:
        """y of the line between the closed lips."""
        return self.eyes.height + (self.nose.length + self.mouth.drop) * (
            self.head.chin - self.eyes.height
        )


def draw_identity(seed: int, index: int) -> Identity:
    """The person `index` (from 0) of the world that `seed` (not negative) fixes; no other person has a say in it."""
    rng = np.random.default_rng((seed, STREAM, index))
    features = {name: ranges.draw(cls, rng) for name, cls in FEATURES.items()}
    hair = hairstyles.draw_hair(rng)
    beard = ranges.draw(Beard, rng, worn=bool(rng.random() < hairstyles.STYLES[hair.style].beard))
    return Identity(**features, hair=hair, beard=beard, colours=palette.draw_colours(rng))


FEATURES = dict(head=Head, ears=Ears, eyes=Eyes, brows=Brows, nose=Nose, mouth=Mouth, marks=Marks)

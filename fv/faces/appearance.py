"""What one image varies: pose, expression, light, backdrop, camera, and now and then glasses or a hat."""

import dataclasses

import numpy as np

from fv.faces import ranges

STREAM = 2  # keeps the draws of images apart from those of identities


@dataclasses.dataclass(frozen=True)
class Pose:
    yaw: float = ranges.mostly_within(-30, 30)  # degrees, positive to the image's right
    pitch: float = ranges.mostly_within(-12, 12)  # degrees, positive looks down
    roll: float = ranges.mostly_within(-10, 10)  # degrees, clockwise
    scale: float = ranges.between(0.88, 1.08)
    shift_x: float = ranges.mostly_within(-0.12, 0.12)  # of half the frame's width
    shift_y: float = ranges.mostly_within(-0.10, 0.12)


@dataclasses.dataclass(frozen=True)
class Expression:
    smile: float = ranges.between(-0.3, 1.0)
    open: float = ranges.up_to(0.45, 0.1, 1.0)  # of the mouth
    brow_raise: float = ranges.between(-0.5, 1.0)
    frown: float = ranges.up_to(0.15, 0.2, 1.0)
    lids: float = ranges.between(0.62, 1.15)  # 1 is awake, under 0.6 half closed
    gaze_x: float = ranges.between(-1, 1)
    gaze_y: float = ranges.between(-0.5, 0.6)


@dataclasses.dataclass(frozen=True)
class Light:
    azimuth: float = ranges.mostly_within(-75, 75)  # degrees, positive from the image's right
    elevation: float = ranges.between(-15, 60)  # degrees
    ambient: float = ranges.between(0.46, 0.80)  # share of the light that has no direction
    intensity: float = ranges.between(0.86, 1.18)
    warmth: float = ranges.mostly_within(-0.10, 0.10)  # gain of red, loss of blue
    tint: float = ranges.mostly_within(-0.04, 0.04)  # gain of green
    rim: float = ranges.up_to(0.3, 0.1, 0.5)  # a second light, from the other side


@dataclasses.dataclass(frozen=True)
class Backdrop:
    """What is behind the person, and the clothes."""

    first: tuple[float, ...] = ranges.colour(0.05, 0.95)
    second: tuple[float, ...] = ranges.colour(0.05, 0.95)
    angle: float = ranges.between(-180, 180)  # degrees, of the gradient between the two
    blobs: tuple[float, ...] = ranges.points(20)  # x, y, size, brightness, hue of four
    stripes: float = ranges.up_to(0.3, 0.1, 0.4)  # contrast
    stripe_pitch: float = ranges.between(4, 18)  # radians across half of the frame
    clothes: tuple[float, ...] = ranges.colour(0.05, 0.9)
    collar: float = ranges.between(0.86, 1.02)  # y of its middle


@dataclasses.dataclass(frozen=True)
class Extras:
    glasses: bool = ranges.chance(0.12)
    round_glasses: bool = ranges.chance(0.5)
    dark_glasses: bool = ranges.chance(0.1)
    frame: tuple[float, ...] = ranges.colour(0.03, 0.45)
    hat: bool = ranges.chance(0.06)
    hat_line: float = ranges.between(0.40, 0.55)  # of the crown's height
    hat_colour: tuple[float, ...] = ranges.colour(0.08, 0.85)


@dataclasses.dataclass(frozen=True)
class Camera:
    blur: float = ranges.between(0.0, 0.0075)  # standard deviation, of the frame's width
    noise: float = ranges.between(0.004, 0.025)  # standard deviation, of full scale
    gamma: float = ranges.mostly_within(0.84, 1.18)
    contrast: float = ranges.between(0.84, 1.14)
    saturation: float = ranges.between(0.86, 1.14)
    quality: int = ranges.whole(40, 95)  # of the JPEG
    noise_seed: int = ranges.whole(0, 2**31)


@dataclasses.dataclass(frozen=True)
class Appearance:
    """One image's share of what is seen."""

    pose: Pose
    expression: Expression
    light: Light
    backdrop: Backdrop
    extras: Extras
    camera: Camera


def draw_appearance(seed: int, identity: int, image: int) -> Appearance:
    """The circumstances of image number `image` of person number `identity` (both from 0), whatever others there are."""
    rng = np.random.default_rng((seed, STREAM, identity, image))
    return Appearance(**{name: ranges.draw(cls, rng) for name, cls in PARTS.items()})


PARTS = dict(
    pose=Pose, expression=Expression, light=Light, backdrop=Backdrop, extras=Extras, camera=Camera
)

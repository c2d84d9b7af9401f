"""The camera: tone, blur, sensor noise, eight bits, JPEG."""

import math

import numpy as np
import simplejpeg

from fv.faces import appearance

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BLUR_REACH = 2.5  # standard deviations after which the kernel ends
LEAST_BLUR = 0.25  # pixels; less changes nothing
KNEE = 0.72  # brightness from which highlights are compressed
PIVOT = 0.45  # the brightness that a change of contrast leaves alone


def expose(picture: np.ndarray, camera: appearance.Camera) -> np.ndarray:
    """Turns a lit picture (3, H, W) into what the sensor saves, (H, W, 3) uint8."""
    picture = _tone(_shoulder(np.maximum(picture, 0.0)), camera)
    picture = _blur(picture, camera.blur * picture.shape[-1])
    rng = np.random.default_rng(camera.noise_seed)
    picture = picture + camera.noise * rng.standard_normal(picture.shape, np.float32)
    levels = np.clip(picture * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0))


def encode(image: np.ndarray, quality: int) -> bytes:
    """JPEG of an RGB image (H, W, 3) uint8, quality 1 to 100."""
    return simplejpeg.encode_jpeg(image, quality, "RGB", "420")


def decode(encoded: bytes) -> np.ndarray:
    """RGB image (H, W, 3) uint8 of a JPEG."""
    return simplejpeg.decode_jpeg(encoded, "RGB")


def grey(image: np.ndarray) -> np.ndarray:
    """Luma (..., H, W) float32 in [0, 255] of RGB images (..., H, W, 3) uint8."""
    return image.astype(np.float32) @ np.asarray(LUMA, np.float32)


def _shoulder(picture: np.ndarray) -> np.ndarray:
    """Bends what is brighter than KNEE towards 1, as film does, and keeps its hue: light skin stays skin in strong light."""
    peak = np.maximum(picture.max(axis=0), KNEE)
    bent = 1.0 - (1.0 - KNEE) * np.exp((KNEE - peak) / (1.0 - KNEE))
    return picture * (bent / peak)


def _tone(picture: np.ndarray, camera: appearance.Camera) -> np.ndarray:
    picture = picture**camera.gamma
    luma = sum(weight * plane for weight, plane in zip(LUMA, picture, strict=True))
    picture = luma + camera.saturation * (picture - luma)
    return PIVOT + camera.contrast * (picture - PIVOT)


def _blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur over the last two axes; `sigma` in pixels."""
    if sigma < LEAST_BLUR:
        return picture
    reach = math.ceil(BLUR_REACH * sigma)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-reach, reach + 1)]
    for axis in (1, 2):
        picture = _convolve(picture, [weight / sum(weights) for weight in weights], axis)
    return picture


def _convolve(picture: np.ndarray, weights: list[float], axis: int) -> np.ndarray:
    reach = len(weights) // 2
    margins = [(reach, reach) if axis == each else (0, 0) for each in range(picture.ndim)]
    padded, length = np.pad(picture, margins, mode="edge"), picture.shape[axis]
    windows = (padded.take(range(start, start + length), axis) for start in range(len(weights)))
    return sum(weight * window for weight, window in zip(weights, windows, strict=True))

"""Chooses the flags of a training run for a data set and a machine.

`flags` is the recipe of fv.quickstart. `measure_crops` tells how tightly the faces are best
cropped: a tight crop leaves out background, which changes with the photograph and not with the
person.
"""

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from fv import jpeg_loader, metrics, record
from fv.manifest import Manifest

CONV8, INCEPTION = "conv8", "inception_v3"
CROPS = (1.0, 0.8, 0.6)  # side of the centre square over the shorter side
# Of the images by which crops are compared.
_PAIRS, _IMAGES, _IMAGES_OF_PERSON, _FEWEST_PEOPLE = 5_000, 1_200, 3, 20
_GRID = 20  # pixels on each side of what is compared
_RIDGE = 0.1  # times the mean variance, added to the covariance

FEWEST_STEPS = 60
_MAX_VIEWS = 300  # of each image in training
_FEW_STEPS = 300
_SAMPLED_PEOPLE, _SAMPLE = 20_000, 8_192
# Cut at 75 pixels, InceptionV3's last map is 3 × 3 and not 1 × 1, and learns much faster.
_CUT = {"feature_layer": "mixed7", "pooling": "flatten"}
_LIGHT = {"scale": 0.9, "color_jitter": "0.1,0.1"}
_STRONG = {
    "scale": "0.9,1.1",
    "rotation": 10,
    "color_jitter": "0.2,0.3,0.3",
    "degrade": 0.5,
    "softmax_margin": 0.0,
    "weight_decay": 0.05,
}


class Network(NamedTuple):
    """What is trained: a backbone, its input's side in pixels, and the pairs in a batch."""

    backbone: str
    size: int
    batch: int


FIRST = Network(CONV8, 32, 32)  # for a first verdict


def choose_network(backbone: str, gpu: bool, face_pixels: float) -> Network:
    """Chooses size and batch.

    Args:
      backbone: CONV8 or INCEPTION.
      gpu: whether there is one.
      face_pixels: side of the crop that the network sees.
    """
    if backbone == CONV8:
        return Network(CONV8, 48, 64)
    return Network(INCEPTION, *((139, 128) if gpu and face_pixels >= 120 else (75, 32)))


def choose_steps(data: Manifest, batch: int, pairs: float) -> int:
    """Chooses the steps that `pairs` fill, but no more than show each image as often as is useful.

    Args:
      data: the shards.
      batch: pairs in a step.
      pairs: that there is time for.
    """
    most = math.ceil(_MAX_VIEWS * data.split("train").images / (2 * batch))
    return max(FEWEST_STEPS, min(int(pairs / batch), most))


def flags(
    data: Manifest, network: Network, *, crop: float, steps: int, gpu: bool, seed: int
) -> dict[str, object]:
    """Returns the flags of a training run, without the folders.

    Args:
      data: the shards.
      network: what is trained; the batch is smaller if there are not as many pairs.
      crop: side of the centre square over the shorter side.
      steps: training steps; from 300 on, the augmentation is strong.
      gpu: whether to compute in bfloat16.
      seed: of weights, order and augmentation.
    """
    backbone, size, batch = network
    train, few = data.split("train"), steps < _FEW_STEPS
    chosen: dict[str, object] = {"backbone": backbone, "image_size": size}
    if backbone == CONV8:
        chosen["pooling"] = "flatten"  # keeps positions
    elif size < 139:
        chosen |= _CUT
    if crop < 1:
        chosen["crop_fraction"] = crop
    if not few:
        # Room for scale and rotation around what the network sees.
        chosen |= {"load_size": size * 3 // 2, "dropout": 0.3 if backbone == CONV8 else 0.2}
    if len(train.identities) > _SAMPLED_PEOPLE:
        chosen["softmax_sample"] = _SAMPLE
    if gpu:
        chosen["precision"] = "mixed_bfloat16"
    validate_every = 0 if steps <= FEWEST_STEPS else math.ceil(steps / (2 if few else 5))
    return chosen | {
        "batch_norm_momentum": 0.9,
        "genuine_only": True,
        "head": "softmax",
        "second_head": "n_pairs",
        "second_head_weight": 3,
        "global_batch_size": max(2, min(batch, train.genuine // 2)),
        "steps": steps,
        "learning_rate": 2e-3,
        "warmup_steps": min(50, steps // 3),
        **(_LIGHT if few else _STRONG),
        "log_every": 10,
        "validate_every": validate_every,
        "checkpoint_every": validate_every,
        "seed": seed,
    }


def measure_crops(pairs: Iterable[record.Pair]) -> dict[float, float]:
    """Measures how well pixels tell people apart in each of `CROPS`.

    Images are reduced to 20 × 20 grey pixels of zero mean and unit variance. The differences within
    the images of every other person give a covariance, which whitens the pixels of the others.
    Their cosines within people are compared with those between people.

    Args:
      pairs: of training people; the images of the genuine ones among the first 5,000 are used, up
        to 1,200.

    Returns:
      The ROC AUC by crop; empty where the images show less than 20 people.
    """
    people: dict[bytes, dict[bytes, None]] = {}
    count = 0
    for pair in itertools.islice(pairs, _PAIRS):
        if pair.label == record.GENUINE and count < _IMAGES:
            images = people.setdefault(pair.names[0], {})
            if len(images) < _IMAGES_OF_PERSON:
                count -= len(images)
                images |= dict.fromkeys(pair.images)
                count += len(images)
    if len(people) < _FEWEST_PEOPLE:
        return {}
    owners = np.repeat(np.arange(len(people)), [len(images) for images in people.values()])
    squares = [_decode_square(image) for images in people.values() for image in images]
    return {
        crop: _auc(np.stack([_pixels(square, crop) for square in squares]), owners)
        for crop in CROPS
    }


def _decode_square(encoded: bytes) -> np.ndarray:
    """Returns the centre square as uint8 [side, side]."""
    image = simplejpeg.decode_jpeg(encoded, "GRAY")[..., 0]
    return _cut(image, 1.0)


def _cut(image: np.ndarray, fraction: float) -> np.ndarray:
    height, width = image.shape
    top, left, side = jpeg_loader.centre_square(height, width, fraction, np.float64)
    return image[top : top + side, left : left + side]


def _pixels(square: np.ndarray, crop: float) -> np.ndarray:
    """Returns float32 [_GRID²] of zero mean and unit variance."""
    cut = _cut(square, crop)
    pixels = cv2.resize(cut, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    values = pixels.astype(np.float32).ravel()
    return (values - values.mean()) / (values.std() + 1e-3)


def _auc(pixels: np.ndarray, owners: np.ndarray) -> float:
    """Returns the ROC AUC of whitened cosines.

    Args:
      pixels: float32 [images, pixels].
      owners: int [images], the person.
    """
    is_known = owners % 2 == 0
    known, scored = pixels[is_known], pixels[~is_known]
    persons, codes = np.unique(owners[is_known], return_inverse=True)
    means = np.zeros((len(persons), pixels.shape[1]))
    np.add.at(means, codes, known)
    within = known - (means / np.bincount(codes)[:, None])[codes]
    covariance = within.T @ within / len(known)
    size = len(covariance)
    values, vectors = np.linalg.eigh(
        covariance + _RIDGE * np.trace(covariance) / size * np.eye(size)
    )
    whitened = (scored - known.mean(0)) @ (vectors / np.sqrt(values))
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    first, second = np.triu_indices(len(scored), 1)
    cosines, others = (whitened @ whitened.T)[first, second], owners[~is_known]
    return metrics.roc(cosines, others[first] == others[second]).auc()

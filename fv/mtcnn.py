"""MTCNN: three networks that find faces and their points, with the weights of the package mtcnn.

Source: K. Zhang et al., Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks, 2016.
"""

import functools
import importlib.util
import io
import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from fv import alignment
from fv.alignment import Face
from fv.errors import UserError

_SMALLEST_FACE = 20  # pixels
_BATCH = 16  # images of one size at once
# Thresholds of confidence and overlap, and the steps of sizes, are those of the package mtcnn.
_PNET_CELL, _PNET_STRIDE = 12, 2  # pixels
_PYRAMID_STEP = 0.709
_PNET_CONFIDENCE, _RNET_CONFIDENCE, _ONET_CONFIDENCE = 0.6, 0.7, 0.8
_SCALE_OVERLAP, _OVERLAP = 0.5, 0.7
_RNET_SIDE, _ONET_SIDE = 24, 48  # pixels
# Where the last network finds the points of an upright face: means over LFW, made symmetric.
_ONET_POINTS = np.array([[15.9, 17.8], [32.1, 17.8], [24.0, 27.3], [16.8, 35.5], [31.2, 35.5]])
_REFINEMENTS = 2
_GREY, _HALF_RANGE = 127.5, 128.0  # of levels, which the networks see from about -1 to 1


class Mtcnn:
    """The three networks, on batches of images of one size.

    The package runs one image at a time. Batches of small TensorFlow graphs are ten times faster
    and find the same faces.
    """

    def __init__(self):
        import tensorflow as tf

        weights = [_load_weights(net) for net in ("pnet", "rnet", "onet")]

        def compiled(call, *shape):
            return tf.function(call, [tf.TensorSpec(shape, tf.float32)], autograph=False)

        self._propose = compiled(functools.partial(_pnet, weights[0]), None, None, None, 3)
        self._refine = compiled(functools.partial(_rnet, weights[1]), None, *(_RNET_SIDE,) * 2, 3)
        self._finish = compiled(functools.partial(_onet, weights[2]), None, *(_ONET_SIDE,) * 2, 3)

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        by_shape: dict[tuple, list[int]] = {}
        for number, image in enumerate(images):
            by_shape.setdefault(image.shape, []).append(number)
        found: list[list[Face]] = [[] for _ in images]
        for numbers in by_shape.values():
            for start in range(0, len(numbers), _BATCH):
                batch = numbers[start : start + _BATCH]
                for place, face in self._detect_batch(np.stack([images[each] for each in batch])):
                    found[batch[place]].append(face)
        return found

    def _detect_batch(self, images: np.ndarray) -> list[tuple[int, Face]]:
        """All faces in uint8 [n, height, width, 3], each with the number of its image."""
        boxes = self._find_boxes(images)
        if not len(boxes):
            return []
        moves, scores = self._refine(_patches(images, boxes, _RNET_SIDE))
        boxes = _keep(_move(boxes, moves.numpy()), scores.numpy(), _RNET_CONFIDENCE)
        boxes = _square(_suppress(boxes, _OVERLAP))
        if not len(boxes):
            return []
        moves, places, scores = self._finish(_patches(images, boxes, _ONET_SIDE))
        sides = _sides(boxes)[:, :, np.newaxis]
        # Five x, then five y, from the corner of the box.
        points = boxes[:, 1:3, np.newaxis] + places.numpy().reshape(-1, 2, 5) * sides - 1
        boxes = np.column_stack([_move(boxes, moves.numpy()), points.reshape(-1, 10)])
        boxes = _keep(boxes, scores.numpy(), _ONET_CONFIDENCE)
        boxes = _suppress(boxes, _OVERLAP, of_smaller=True)
        if not len(boxes):  # TensorFlow takes no empty batch
            return []
        points = boxes[:, 6:].reshape(-1, 2, 5).transpose(0, 2, 1)
        for _ in range(_REFINEMENTS):
            points = self._refine_points(images[boxes[:, 0].astype(int)], points)
        corners = zip(boxes[:, :6].tolist(), points, strict=True)
        return [
            (int(image), Face(place, (left, top, right - left, bottom - top), score))
            for (image, left, top, right, bottom, score), place in corners
        ]

    def _refine_points(self, images: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Finds the points of one face in each image again, [m, 5, 2], with the face set upright.

        The last network saw mostly upright faces in the middle of its input. This makes the points
        of turned and moved copies of an image agree three times better, and more so the second
        time (benchmarks/results/alignment.md).
        """
        moves = [alignment.estimate_similarity(each, _ONET_POINTS) for each in points]
        upright = [alignment.warp(*each, _ONET_SIDE) for each in zip(images, moves, strict=True)]
        _, places, _ = self._finish(_normalise(np.reshape(upright, (-1, *(_ONET_SIDE,) * 2, 3))))
        refined = points.copy()
        found = places.numpy().reshape(-1, 2, 5).transpose(0, 2, 1) * _ONET_SIDE - 0.5
        for number, (move, place) in enumerate(zip(moves, found, strict=True)):
            again = (place - move[:, 2]) @ np.linalg.inv(move[:, :2]).T
            between = np.hypot(*(points[number, 1] - points[number, 0]))
            if np.abs(again - points[number]).max() < between / 2:  # else it lost the face
                refined[number] = again
        return refined

    def _find_boxes(self, images: np.ndarray) -> np.ndarray:
        """Square boxes that may hold a face: [m, 6] of image, left, top, right, bottom, score."""
        height, width = images.shape[1:3]
        scale, found = _PNET_CELL / _SMALLEST_FACE, [np.zeros((0, 6))]
        while min(height, width) * scale >= _PNET_CELL:
            size = round(width * scale), round(height * scale)
            level = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
            moves, scores = (each.numpy() for each in self._propose(_normalise(np.stack(level))))
            image, row, column = np.nonzero(scores > _PNET_CONFIDENCE)
            corner = np.stack([column, row], axis=1) * _PNET_STRIDE
            boxes = np.concatenate([corner, corner + _PNET_CELL], axis=1)
            boxes = (boxes + moves[image, row, column] * _PNET_CELL) / scale
            rows = np.column_stack([image, boxes, scores[image, row, column]])
            found.append(_suppress(rows, _SCALE_OVERLAP))
            scale *= _PYRAMID_STEP
        return _square(_suppress(np.concatenate(found), _OVERLAP))


def _load_weights(net: str) -> list[np.ndarray]:
    import joblib
    import lz4.frame

    # joblib would leave a reader open, whose deletion Python 3.13 reports on stderr.
    with open(os.path.join(weights_folder(), f"{net}.lz4"), "rb") as file:
        return joblib.load(io.BytesIO(lz4.frame.decompress(file.read())))


def weights_folder() -> str:
    """The folder of the weights in the package mtcnn, which is not imported: it loads Keras 3.

    Raises:
      UserError: there is no such package.
    """
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("--detector=mtcnn needs the package mtcnn: pip install 'fv[align]'")
    return os.path.join(spec.submodule_search_locations[0], "assets", "weights")


def _normalise(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.float32) - np.float32(_GREY)) / np.float32(_HALF_RANGE)


def _patches(images: np.ndarray, boxes: np.ndarray, side: int) -> Any:
    """The boxes of images, made to squares of `side` pixels, float32 [m, side, side, 3]."""
    import tensorflow as tf

    height, width = images.shape[1:3]
    edges = boxes[:, [2, 1, 4, 3]] / np.array([height, width, height, width])
    edges, numbers = edges.astype(np.float32), boxes[:, 0].astype(np.int32)
    return tf.image.crop_and_resize(_normalise(images), edges, numbers, (side, side))


def _sides(boxes: np.ndarray) -> np.ndarray:
    """Width and height of boxes, [m, 2]; the last pixel counts."""
    return boxes[:, 3:5] - boxes[:, 1:3] + 1


def _move(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Moves the edges of boxes by shares of their sides, [m, 4]."""
    moved = boxes.copy()
    moved[:, 1:5] += moves * np.tile(_sides(boxes), 2)
    return moved


def _keep(boxes: np.ndarray, scores: np.ndarray, least: float) -> np.ndarray:
    """The boxes of at least a score, with it."""
    boxes[:, 5] = scores
    return boxes[scores > least]


def _square(boxes: np.ndarray) -> np.ndarray:
    """Makes boxes squares of their longer side around their centres."""
    boxes = boxes.copy()
    centres = (boxes[:, 1:3] + boxes[:, 3:5]) / 2
    half = (boxes[:, 3:5] - boxes[:, 1:3]).max(axis=1, keepdims=True) / 2
    boxes[:, 1:3], boxes[:, 3:5] = centres - half, centres + half
    return boxes


def _suppress(boxes: np.ndarray, most: float, of_smaller: bool = False) -> np.ndarray:
    """Leaves out boxes that overlap a box of the same image with a higher score, best first.

    The overlap is the common area over that of both boxes together, or over the smaller one.
    """
    boxes = boxes[np.argsort(-boxes[:, 5], kind="stable")]
    image, left, top, right, bottom = boxes[:, :5].T
    area = (right - left) * (bottom - top)
    is_open, kept = np.ones(len(boxes), bool), []
    for best in range(len(boxes)):
        if not is_open[best]:
            continue
        kept.append(best)
        across = np.minimum(right, right[best]) - np.maximum(left, left[best])
        down = np.minimum(bottom, bottom[best]) - np.maximum(top, top[best])
        common = np.maximum(across, 0) * np.maximum(down, 0)
        whole = np.minimum(area, area[best]) if of_smaller else area + area[best] - common
        is_open &= (image != image[best]) | (common <= most * whole)
    return boxes[kept]


# The networks, with the weights in the order of the package's files.


def _convolve(images, weights, pool: int = 0, padding: str = "SAME"):
    """A convolution with its bias, a rectifier with a slope for each channel, and a maximum."""
    import tensorflow as tf

    kernel, bias, slope = weights
    rows = tf.nn.bias_add(tf.nn.conv2d(images, kernel, 1, "VALID"), bias)
    rows = tf.maximum(rows, 0.0) + slope * tf.minimum(rows, 0.0)
    return tf.nn.max_pool2d(rows, pool, 2, padding) if pool else rows


def _dense(rows, weights):
    """Flattens in the order of columns, which the weights expect; a layer and its rectifier."""
    import tensorflow as tf

    kernel, bias, slope = weights
    rows = tf.reshape(tf.transpose(rows, (0, 2, 1, 3)), (-1, kernel.shape[0])) @ kernel + bias
    return tf.maximum(rows, 0.0) + slope * tf.minimum(rows, 0.0)


def _face_share(logits):
    """The probability of a face of logits [..., 2]."""
    import tensorflow as tf

    return tf.sigmoid(logits[..., 1] - logits[..., 0])


def _pnet(weights, images):
    import tensorflow as tf

    rows = _convolve(images, weights[:3], 2)
    rows = _convolve(_convolve(rows, weights[3:6]), weights[6:9])
    moves, logits = (
        tf.nn.bias_add(tf.nn.conv2d(rows, kernel, 1, "VALID"), bias)
        for kernel, bias in (weights[9:11], weights[11:13])
    )
    return moves, _face_share(logits)


def _rnet(weights, images):
    rows = _convolve(_convolve(images, weights[:3], 3), weights[3:6], 3, "VALID")
    rows = _dense(_convolve(rows, weights[6:9]), weights[9:12])
    moves, logits = (rows @ kernel + bias for kernel, bias in (weights[12:14], weights[14:16]))
    return moves, _face_share(logits)


def _onet(weights, images):
    rows = _convolve(_convolve(images, weights[:3], 3), weights[3:6], 3, "VALID")
    rows = _convolve(_convolve(rows, weights[6:9], 2), weights[9:12])
    rows = _dense(rows, weights[12:15])
    moves, points, logits = (
        rows @ weights[at] + weights[at + 1] for at in range(15, len(weights), 2)
    )
    return moves, points, _face_share(logits)

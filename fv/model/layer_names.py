"""Names of a network's layers that are the same in every build of it."""

import collections
import re
from collections.abc import Sequence

import tf_keras

_NUMBERED = re.compile(r"(.+)_(\d+)")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def lasting(names: Sequence[str]) -> list[str]:
    """Names counted anew from the lowest number of their kind.

    tf_keras numbers the layers that were given no name through a whole process, in the order in which they are made: the
    first convolution of the second InceptionV3 is conv2d_94. Its lasting name is conv2d, whatever the network is cut behind.
    """
    parts = [_split(name) for name in names]
    lowest: dict[str, int] = {}
    for kind, number in parts:
        lowest[kind] = min(number, lowest.get(kind, number))
    counted = [(kind, number - lowest[kind]) for kind, number in parts]
    return [f"{kind}_{number}" if number else kind for kind, number in counted]


def by_class(layers: Sequence[tf_keras.layers.Layer]) -> list[str]:
    """Names that tf_keras gives these layers in a .weights.h5 file: their class, counted in the order of the list."""
    kinds = [_WORDS.sub("_", type(layer).__name__).lower() for layer in layers]
    seen: collections.Counter[str] = collections.Counter()
    names = []
    for kind in kinds:
        names.append(f"{kind}_{seen[kind]}" if seen[kind] else kind)
        seen[kind] += 1
    return names


def _split(name: str) -> tuple[str, int]:
    match = _NUMBERED.fullmatch(name)
    return (match.group(1), int(match.group(2))) if match else (name, 0)

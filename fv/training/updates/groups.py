"""Groups of weights that share a learning rate and a weight decay."""

import dataclasses
import itertools

import tensorflow as tf

from fv.model import backbones
from fv.model.siamese import Siamese

_NOT_DECAYED = (
    "bias",
    "beta",
    "gamma",
)  # last parts of variables' names: biases, and the offsets and gains of norms


@dataclasses.dataclass(frozen=True)
class Group:
    """Weights that are updated alike: of the backbone or above it, decayed or not."""

    of_backbone: bool
    decays: bool
    variables: tuple[tf.Variable, ...]


def split(model: Siamese) -> list[Group]:
    """Splits the model's trainable weights into up to four groups; those of a frozen backbone are in none."""
    backbone = {
        variable.ref() for variable in model.encoder.get_layer(backbones.NAME).trainable_variables
    }

    def matches(variable: tf.Variable, of_backbone: bool, decayed: bool) -> bool:
        return (variable.ref() in backbone) == of_backbone and decays(variable) == decayed

    kinds = itertools.product((True, False), repeat=2)
    found = [
        Group(*kind, tuple(each for each in model.trainable_variables if matches(each, *kind)))
        for kind in kinds
    ]
    return [group for group in found if group.variables]


def decays(variable: tf.Variable) -> bool:
    """Whether weight decay acts on it: on all but biases and norms."""
    return variable.name.split("/")[-1].split(":")[0] not in _NOT_DECAYED

"""First weights of a model from elsewhere: what fits is taken, what does not is named with the reason."""

import dataclasses

import numpy as np
import tensorflow as tf

from fv.errors import UserError
from fv.model import encoder, model_record, weight_sources
from fv.model.model_record import ModelRecord
from fv.model.siamese import Siamese
from fv.model.weight_sources import Source

NONE = "none"
_NAMED = 5  # layers that the line names
_CENTRES = "identity_centres"

Weights = dict[str, list[tf.Variable]]


@dataclasses.dataclass(frozen=True)
class FirstWeights:
    """Weights that a run begins with, and the record of the model that will have them."""

    source: Source
    plain_record: ModelRecord

    @property
    def record(self) -> ModelRecord:
        """That record, which knows whom the weights have met before."""
        return model_record.inherit(self.plain_record, self.source.record)

    def load(self, model: Siamese) -> str:
        """As the function `load`; the line also says where the images differ that both were trained on."""
        line = load(self.source, model, self.plain_record)
        there = self.source.record and self.source.record.preprocessing
        here = self.plain_record.preprocessing
        if there is None or here is None or here.same_crop(there):
            return line
        return (
            f"{line}; they were trained on images stored with {there}, these are stored with {here}"
        )


def load(source: Source, model: Siamese, record: ModelRecord) -> str:
    """Puts the weights that fit into a model; to be called in the strategy's scope that it was made in.

    A layer fits where the source has one of its name with weights of its shapes; layers without a name of their own go by
    the order in which they were made (`layer_names.lasting`). The embedding is taken where it stands behind the same layer
    with the same pooling, identity centres where the training identities are the same.

    Args:
      source: from `weight_sources.find`.
      model: whose weights are overwritten.
      record: of the model.

    Returns:
      One line: how many layers were loaded, and which were not.

    Raises:
      UserError: of the backbone nothing fits, or less than has another shape: then what does fits by chance. The model is as
        it was.
    """
    wanted = weight_sources.weights_by_layer(model)
    misfits = _misfits(wanted, source, model, record)
    _check_backbone(misfits, source, model)
    taken = [name for name, reason in misfits.items() if reason is None]
    for name in taken:
        for weight, value in zip(wanted[name], source.layers[name], strict=True):
            weight.assign(value)
    line = f"first weights ({source.name}): {len(taken)} of {len(wanted)} layers loaded"
    return line if len(taken) == len(wanted) else f"{line}; not {_list_misfits(misfits)}"


def _check_backbone(misfits: dict[str, str | None], source: Source, model: Siamese) -> None:
    layers = {name: misfits[name] for name in weight_sources.backbone_parts(model)}
    fitting = sum(reason is None for reason in layers.values())
    if fitting <= sum(name in source.layers for name in layers) / 2:
        raise UserError(
            f"--init_weights: the {source.name} does not fit the backbone: {_list_misfits(layers)}"
        )


def _misfits(
    wanted: Weights, source: Source, model: Siamese, record: ModelRecord
) -> dict[str, str | None]:
    """By layer, why the source's weights cannot be taken; None where they can."""
    reasons = {name: _misfit(weights, source.layers.get(name)) for name, weights in wanted.items()}
    withheld = _withheld(source, model, record)
    reasons |= {
        name: reason
        for name, reason in withheld.items()
        if name in source.layers and name in wanted
    }
    if reasons[encoder.EMBEDDING]:
        reasons |= {
            name: reasons[name] or "of other embeddings"
            for name in weight_sources.head_parts(model)
        }
    return reasons


def _withheld(source: Source, model: Siamese, record: ModelRecord) -> dict[str, str]:
    """Weights that may have the right shape but have another meaning, with the reason."""
    if source.record is None:
        return {}
    found = {}
    cut = (source.end, source.record.options.pooling)
    if cut != (weight_sources.last_backbone_layer(model), record.options.pooling):
        found[encoder.EMBEDDING] = f"behind {' and '.join(cut)} there"
    if source.record.identities_sha256 != record.identities_sha256:
        found[_CENTRES] = "other training identities"
    return found


def _misfit(here: list[tf.Variable], there: list[np.ndarray] | None) -> str | None:
    if there is None:
        return "not there"
    shapes = [[tuple(weight.shape) for weight in weights] for weights in (there, here)]
    return (
        None
        if shapes[0] == shapes[1]
        else f"{_describe(shapes[0])} there, {_describe(shapes[1])} here"
    )


def _describe(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(" x ".join(map(str, shape)) for shape in shapes)


def _list_misfits(misfits: dict[str, str | None]) -> str:
    listed = [f"{name} ({reason})" for name, reason in misfits.items() if reason]
    more = f" and {len(listed) - _NAMED:,} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more

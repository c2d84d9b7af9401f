"""Where a model's first weights can come from: ImageNet, another run, an export, a weights file of tf_keras."""

import collections
import dataclasses
import io
import os
import re
import zipfile
from collections.abc import Sequence

import h5py
import numpy as np
import tensorflow as tf
import tf_keras

from fv import errors, files, preprocess, removed_flags, workdir
from fv.errors import UserError
from fv.model import backbones, checkpoint_files, encoder, model_record, siamese
from fv.model.checkpoint_choice import BEST, LAST
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.preprocessing import Preprocessing

# Names of a network's layers that are the same in every build of it.

_NUMBERED = re.compile(r"(.+)_(\d+)")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


def stable_names(names: Sequence[str]) -> list[str]:
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


def names_by_class(layers: Sequence[tf_keras.layers.Layer]) -> list[str]:
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


# Weights files that tf_keras writes, read without a model that fits them: .h5, .weights.h5,
# .keras.

_WEIGHTS_OF_KERAS = "model.weights.h5"  # in a .keras file
_OF_WHOLE_MODEL = "model_weights"  # group of an .h5 file that holds more than weights
_OF_OPTIMIZER = "optimizer"

Layers = dict[str, list[np.ndarray]]


def read_weight_file(path: str) -> tuple[Layers, bool]:
    """The weights of a file by layer, and whether its names count the layers of each class, as `layer_names.by_class` does.

    Layers inside a layer stand beside the others.

    Raises:
      OSError, KeyError: it is no such file, or cut short.
    """
    if not zipfile.is_zipfile(path):
        return _read(path)
    with zipfile.ZipFile(path) as held:
        return _read(io.BytesIO(held.read(_WEIGHTS_OF_KERAS)))


def _read(file: str | io.BytesIO) -> tuple[Layers, bool]:
    with h5py.File(file) as root:
        named = root.get(_OF_WHOLE_MODEL, root)
        if "layer_names" in named.attrs:
            return _by_names(named), False
        return _by_class(root), True


def _by_names(root: h5py.Group) -> Layers:
    """Weights are called LAYER/kernel:0 and so on, also those of layers inside a layer."""
    layers: Layers = {}
    for group in root.attrs["layer_names"]:
        for name in map(_text, root[_text(group)].attrs["weight_names"]):
            layers.setdefault(name.rpartition("/")[0], []).append(root[_text(group)][name][()])
    return layers


def _by_class(root: h5py.Group) -> Layers:
    """Weights are called …/LAYER/vars/0 and so on."""
    layers: Layers = {}

    def take(name: str, held: h5py.Group | h5py.Dataset) -> None:
        path = name.split("/")
        if (
            isinstance(held, h5py.Group)
            and path[-1] == "vars"
            and len(path) > 1
            and path[0] != _OF_OPTIMIZER
            and len(held)
        ):
            layers[path[-2]] = [held[number][()] for number in sorted(held, key=int)]

    root.visititems(take)
    return layers


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


IMAGENET = "imagenet"
CARD = "model_card.json"  # what an export says of its model, beside its weights
_AT_BEST = f"@{BEST}"  # behind a workdir
_EXPORTED = os.path.join("variables", "variables")


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights that a model may begin with.

    Attributes:
      name: what they are, for messages.
      layers: weights by layer, named as in `parts`.
      record: of the model they belong to; None where they are of a backbone alone.
      end: the layer that its backbone ends behind; None likewise.
    """

    name: str
    layers: dict[str, list[np.ndarray]]
    record: ModelRecord | None = None
    end: str | None = None


def weights_by_layer(model: Siamese) -> dict[str, list[tf.Variable]]:
    """A model's weights by layer: the backbone's by lasting names, the embedding's, the head's."""
    return (
        backbone_parts(model)
        | {encoder.EMBEDDING: model.encoder.get_layer(encoder.EMBEDDING).weights}
        | head_parts(model)
    )


def backbone_parts(model: Siamese) -> dict[str, list[tf.Variable]]:
    """Those of its backbone alone."""
    return _layers(model.encoder.get_layer(backbones.NAME))


def head_parts(model: Siamese) -> dict[str, list[tf.Variable]]:
    """Those of its head alone: of its layers, and variables in none."""
    layers = [
        module for module in model.head.submodules if isinstance(module, tf_keras.layers.Layer)
    ]
    inside = {variable.ref() for layer in layers for variable in layer.weights}
    others = [variable for variable in model.head.variables if variable.ref() not in inside]
    return {layer.name: layer.weights for layer in layers} | {
        each.name.split(":")[0]: [each] for each in others
    }


def last_backbone_layer(model: Siamese) -> str:
    """Lasting name of the layer that the model's backbone ends behind."""
    return _lasting(model.encoder.get_layer(backbones.NAME).layers)[-1]


def find_weights(where: str, options: ModelOptions) -> Source:
    """Reads the weights that a model of these options may begin with.

    Args:
      where: 'imagenet', or the path of a workdir, of an export's version or of a weights file of tf_keras. '@best'
        behind a workdir names its checkpoint that validated best.
      options: of the model.

    Raises:
      UserError: nothing of the kind is there, or it is of another backbone.
    """
    if where == IMAGENET:
        return Source("ImageNet", _values(_layers(_plain(options, IMAGENET))))
    folder = where.removesuffix(_AT_BEST)
    if files.exists(os.path.join(folder, workdir.MODEL)):
        return _of_workdir(folder, BEST if where.endswith(_AT_BEST) else LAST, options)
    if files.exists(os.path.join(where, CARD)):
        return _of_export(where, options)
    if os.path.isfile(where):
        return _of_file(where, options)
    raise UserError(
        f"--init_weights={where} is no workdir of fv.train, no version folder of fv.export and no file: give the path of "
        "one, imagenet or none"
    )


def _of_workdir(where: str, checkpoint: str, options: ModelOptions) -> Source:
    record = model_record.load(where)
    _check_backbone(where, record.options, options)
    model, step = checkpoint_files.load_model(where, record, checkpoint, f"--init_weights={where}")
    return Source(
        f"{checkpoint} checkpoint, step {step:,}",
        _values(weights_by_layer(model)),
        record,
        last_backbone_layer(model),
    )


def _of_export(where: str, options: ModelOptions) -> Source:
    """An export holds what it needs to compare: encoder and, where it has weights, the head's scoring."""
    try:
        card = files.load_json(os.path.join(where, CARD))
        held = removed_flags.from_record(ModelOptions, card["model"])
        preprocessing = Preprocessing.from_json(card.get("preprocessing"), f"{where}/{CARD}")
        _check_backbone(where, held, options)
        model = siamese.build_siamese(held, identities=1)
        scoring = model.head.scoring.variables if model.head.scoring else []
        reader = tf.train.load_checkpoint(os.path.join(where, _EXPORTED))
        for number, variable in enumerate([*model.encoder.variables, *scoring]):
            variable.assign(reader.get_tensor(f"weights/{number}/.ATTRIBUTES/VARIABLE_VALUE"))
    except (KeyError, TypeError, ValueError, tf.errors.OpError, RuntimeError) as error:
        errors.raise_if_temporary(error)
        raise UserError(
            f"--init_weights={where} is no export of this fv, or damaged ({_first_line(error)})"
        ) from error
    kept = {variable.ref() for variable in [*model.encoder.variables, *scoring]}
    layers = {
        name: weights
        for name, weights in weights_by_layer(model).items()
        if weights[0].ref() in kept
    }
    return Source(
        "export",
        _values(layers),
        ModelRecord(held, 1, "", preprocessing=preprocessing),
        last_backbone_layer(model),
    )


def _of_file(where: str, options: ModelOptions) -> Source:
    try:
        layers, by_class = read_weight_file(where)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        errors.raise_if_temporary(error)
        raise UserError(
            f"--init_weights={where} is no weights file of tf_keras, or damaged ({_first_line(error)})"
        ) from error
    if by_class:
        made = _plain(options, None).layers
        names = dict(zip(names_by_class(made), _lasting(made), strict=True))
        layers = {names[name]: weights for name, weights in layers.items() if name in names}
    else:
        layers = dict(zip(stable_names(list(layers)), layers.values(), strict=True))
    layers.pop(encoder.EMBEDDING, None)  # behind which layer of the backbone, the file does not say
    return Source("weights file", layers)


def _check_backbone(where: str, held: ModelOptions, wanted: ModelOptions) -> None:
    if held.backbone != wanted.backbone:
        raise UserError(
            f"--init_weights={where} holds a {held.backbone}, not a {wanted.backbone}: give --backbone={held.backbone}"
        )


def _plain(options: ModelOptions, weights: str | None) -> tf_keras.Model:
    return backbones.build_plain(
        options.backbone, (options.image_size, options.image_size, preprocess.CHANNELS), weights
    )


def _layers(backbone: tf_keras.Model) -> dict[str, list[tf.Variable]]:
    named = zip(_lasting(backbone.layers), backbone.layers, strict=True)
    return {name: layer.weights for name, layer in named if layer.weights}


def _lasting(layers: Sequence[tf_keras.layers.Layer]) -> list[str]:
    return stable_names([layer.name for layer in layers])


def _values(layers: dict[str, list[tf.Variable]]) -> dict[str, list[np.ndarray]]:
    return {name: [weight.numpy() for weight in weights] for name, weights in layers.items()}


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__

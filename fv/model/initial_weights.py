"""First weights of a model: ImageNet's, another run's, an export's, or those of a weights file.

`find_weights` reads them, `FirstWeights.load` puts those that fit into a model. Layers correspond
by name; layers that were given no name correspond by the order in which they were made
(`stable_names`).
"""

import collections
import dataclasses
import io
import os
import re
import zipfile
import zlib
from collections.abc import Sequence

import h5py
import numpy as np
import tensorflow as tf
import tf_keras

from fv import errors, files, image_ops, workdir
from fv import options as fv_options
from fv.errors import UserError
from fv.model import backbones, checkpoint_files, model_record, siamese
from fv.model.model_record import ModelRecord
from fv.model.options import ModelOptions
from fv.model.siamese import Siamese
from fv.preprocessing import Preprocessing

NONE, IMAGENET = "none", "imagenet"  # values of --init_weights
CARD = "model_card.json"  # what an export says of its model, beside its weights

_AT_BEST = f"@{workdir.BEST}"  # behind a workdir
_EXPORTED = os.path.join("variables", "variables")
_CENTRES = "identity_centres"
_LISTED_LAYERS = 5  # in a message
_NUMBERED = re.compile(r"(.+)_(\d+)")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
_KERAS_WEIGHTS = "model.weights.h5"  # file in a .keras file
_MODEL_GROUP = "model_weights"  # group of an .h5 file that contains more than weights
_OPTIMIZER_GROUP = "optimizer"

# What h5py and zipfile raise on a damaged file, or one of another layout.
_DAMAGED = (
    AttributeError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = dict[str, list[np.ndarray]]  # weights by layer
Variables = dict[str, list[tf.Variable]]  # likewise
Reasons = dict[str, str | None]  # by layer, why weights do not fit; None where they do


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights that a model may begin with.

    Attributes:
      name: what they are, for messages.
      layers: weights by the names of `weights_by_layer`.
      record: of the model they belong to; None if they are of a backbone alone.
      last_layer: the layer that its backbone ends behind; None likewise.
    """

    name: str
    layers: Arrays
    record: ModelRecord | None = None
    last_layer: str | None = None


@dataclasses.dataclass(frozen=True)
class FirstWeights:
    """Weights for a new model, and the record of that model without them."""

    source: Source
    plain_record: ModelRecord

    @property
    def record(self) -> ModelRecord:
        """The record of the model with these weights, which includes their training identities."""
        return model_record.inherit(self.plain_record, self.source.record)

    def load(self, model: Siamese) -> str:
        """Overwrites the weights of a model with those that fit; call it in the model's scope.

        A layer fits if the source has one of its name with weights of the same shapes. The
        embedding also needs the same backbone layer and pooling before it, identity centres need
        the same training identities, and the head needs the embedding.

        Returns:
          One line: how many layers were loaded, which were not and why, and how the stored training
          images differ.

        Raises:
          UserError: at most half of the source's backbone layers fit. Those fit by chance. The
            model is unchanged.
        """
        wanted = weights_by_layer(model)
        misfits = self._find_misfits(wanted, model)
        self._check_backbone(misfits, model)
        fitting = [name for name, reason in misfits.items() if reason is None]
        for name in fitting:
            for weight, value in zip(wanted[name], self.source.layers[name], strict=True):
                weight.assign(value)
        line = f"first weights ({self.source.name}): {len(fitting)} of {len(wanted)} layers loaded"
        if len(fitting) < len(wanted):
            line += f"; not {_list_misfits(misfits)}"
        ours = self.plain_record.preprocessing
        theirs = self.source.record.preprocessing if self.source.record else ours
        if not ours.same_crop(theirs):
            line += (
                f"; they were trained on images stored with {theirs}, these are stored with {ours}"
            )
        return line

    def _find_misfits(self, wanted: Variables, model: Siamese) -> Reasons:
        layers = self.source.layers
        reasons = {name: _compare(weights, layers.get(name)) for name, weights in wanted.items()}
        others = self._find_other_meanings(model)
        for name in wanted.keys() & layers.keys():
            reasons[name] = others.get(name.rpartition("/")[2], reasons[name])
        if reasons[siamese.EMBEDDING]:
            for name in _head_layers(model):
                reasons[name] = reasons[name] or "of other embeddings"
        elif not model.encoder.get_layer(siamese.EMBEDDING).trainable:
            kernel = layers[siamese.EMBEDDING][0]  # of regions, each of which learns alone
            if not np.array_equal(kernel, np.eye(len(kernel))):
                reasons[siamese.EMBEDDING] = "whitened there, which mixes regions: use fv.whiten"
        return reasons

    def _find_other_meanings(self, model: Siamese) -> dict[str, str]:
        """Reasons against weights that may have the right shape but mean something else."""
        theirs, ours = self.source.record, self.plain_record
        reasons: dict[str, str] = {}
        if theirs is None:
            return reasons
        before = (self.source.last_layer, theirs.options.pooling)
        if before != (_last_backbone_layer(model), ours.options.pooling):
            reasons[siamese.EMBEDDING] = f"behind {before[0]} and {before[1]} there"
        if theirs.identities_sha256 != ours.identities_sha256:
            reasons[_CENTRES] = "other training identities"
        return reasons

    def _check_backbone(self, misfits: Reasons, model: Siamese) -> None:
        backbone = {name: misfits[name] for name in _backbone_layers(model)}
        fitting = sum(reason is None for reason in backbone.values())
        if fitting <= sum(name in self.source.layers for name in backbone) / 2:
            wrong = f"--init_weights: the {self.source.name} does not fit the backbone"
            raise UserError(f"{wrong}: {_list_misfits(backbone)}")


def find_weights(where: str, options: ModelOptions) -> Source:
    """Reads the weights that a model may begin with.

    Args:
      where: 'imagenet', or the path of a workdir, of a version folder of an export, or of a weights
        file of tf_keras (.h5, .weights.h5, .keras). '@best' behind a workdir selects its
        checkpoint that validated best.
      options: of the model.

    Raises:
      UserError: there is nothing of the kind, or it is of another backbone.
    """
    if options.regions and (where == IMAGENET or files.is_file(where)):
        raise UserError(f"--init_weights={where} is of one network: leave --regions out")
    if where == IMAGENET:
        return Source("ImageNet", _values(_layer_weights(_build_plain(options, IMAGENET))))
    folder = where.removesuffix(_AT_BEST)
    if files.exists(os.path.join(folder, workdir.MODEL)):
        which = workdir.BEST if where.endswith(_AT_BEST) else workdir.LAST
        return _of_workdir(folder, which, options)
    if files.exists(os.path.join(where, CARD)):
        return _of_export(where, options)
    if files.is_file(where):
        return _of_file(where, options)
    raise UserError(
        f"--init_weights={where} is no workdir of fv.train, no version folder of fv.export and no "
        "file: give the path of one, imagenet or none"
    )


def weights_by_layer(model: Siamese) -> Variables:
    """Returns a model's weights by layer: of its backbone by stable names, embedding and head."""
    others = [layer for layer in model.encoder.layers if layer.name != backbones.NAME]
    embedding = {layer.name: layer.weights for layer in others if layer.weights}
    return _backbone_layers(model) | embedding | _head_layers(model)


def stable_names(names: Sequence[str]) -> list[str]:
    """Makes names of a network's layers that are the same in every build of it.

    tf_keras numbers layers without a given name through a whole process: the first convolution of
    the second InceptionV3 is conv2d_94. Here, numbers start at the lowest one of their kind.
    """
    matches = [_NUMBERED.fullmatch(name) for name in names]
    parts = [
        (match.group(1), int(match.group(2))) if match else (name, 0)
        for name, match in zip(names, matches, strict=True)
    ]
    lowest: dict[str, int] = {}
    for kind, number in parts:
        lowest[kind] = min(number, lowest.get(kind, number))
    counted = [(kind, number - lowest[kind]) for kind, number in parts]
    return [f"{kind}_{number}" if number else kind for kind, number in counted]


def names_by_class(layers: Sequence[tf_keras.layers.Layer]) -> list[str]:
    """Makes the names that a .weights.h5 file has: the class, counted in the order of the list."""
    seen: collections.Counter[str] = collections.Counter()
    names = []
    for layer in layers:
        kind = _WORDS.sub("_", type(layer).__name__).lower()
        names.append(f"{kind}_{seen[kind]}" if seen[kind] else kind)
        seen[kind] += 1
    return names


def _of_workdir(where: str, which: str, options: ModelOptions) -> Source:
    record = model_record.load(where)
    _require_backbone(where, record.options, options)
    model, step = checkpoint_files.load_model(where, record, which, f"--init_weights={where}")
    layers = _values(weights_by_layer(model))
    return Source(f"{which} checkpoint, step {step:,}", layers, record, _last_backbone_layer(model))


def _of_export(where: str, options: ModelOptions) -> Source:
    """An export contains the encoder and, if that has weights, the head's scoring."""
    try:
        card = files.load_json(os.path.join(where, CARD))
        held = fv_options.from_record(ModelOptions, card["model"])
        preprocessing = Preprocessing.from_json(card["preprocessing"], f"{where}/{CARD}")
        external = tuple(card.get("external_teachers", ()))
        _require_backbone(where, held, options)
        model = siamese.build_siamese(held, identities=1)
        scoring = model.head.scoring.variables if model.head.scoring else []
        exported = [*model.encoder.variables, *scoring]
        reader = tf.train.load_checkpoint(os.path.join(where, _EXPORTED))
        for number, variable in enumerate(exported):
            variable.assign(reader.get_tensor(f"weights/{number}/.ATTRIBUTES/VARIABLE_VALUE"))
    except (KeyError, TypeError, ValueError, tf.errors.OpError, RuntimeError) as error:
        errors.raise_if_temporary(error)
        wrong = f"--init_weights={where} is no export of this fv, or damaged"
        raise UserError(f"{wrong} ({errors.describe(error)})") from error
    references = {variable.ref() for variable in exported}
    layers = weights_by_layer(model).items()
    kept = {name: weights for name, weights in layers if weights[0].ref() in references}
    record = ModelRecord(held, 1, "", preprocessing=preprocessing, external_teachers=external)
    return Source("export", _values(kept), record, _last_backbone_layer(model))


def _of_file(where: str, options: ModelOptions) -> Source:
    try:
        layers, by_class = _read_weights_file(where)
    except _DAMAGED as error:
        errors.raise_if_temporary(error)
        wrong = f"--init_weights={where} is no weights file of tf_keras, or damaged"
        raise UserError(f"{wrong} ({errors.describe(error)})") from error
    if by_class:
        built = _build_plain(options, None).layers
        names = dict(zip(names_by_class(built), _stable_layer_names(built), strict=True))
        layers = {names[name]: weights for name, weights in layers.items() if name in names}
    else:
        layers = dict(zip(stable_names(list(layers)), layers.values(), strict=True))
    # The file does not say which layer of the backbone its embedding is behind.
    layers.pop(siamese.EMBEDDING, None)
    return Source("weights file", layers)


def _read_weights_file(path: str) -> tuple[Arrays, bool]:
    """Reads weights by layer, and whether layers are named by class as in `names_by_class`.

    Layers inside a layer are on the same level as the others.

    Raises:
      One of `_DAMAGED`: it is no such file, or cut short.
    """
    file: str | io.BytesIO = path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            file = io.BytesIO(archive.read(_KERAS_WEIGHTS))
    layers: Arrays = {}

    def read_by_class(name: str, held: h5py.Group | h5py.Dataset) -> None:
        path = name.split("/")  # …/LAYER/vars, which contains 0, 1 and so on
        if path[-1] != "vars" or len(path) == 1 or path[0] == _OPTIMIZER_GROUP:
            return
        if isinstance(held, h5py.Group) and len(held):
            layers[path[-2]] = [_read_array(held[number]) for number in sorted(held, key=int)]

    with h5py.File(file) as root:
        named = root.get(_MODEL_GROUP, root)
        if "layer_names" not in named.attrs:
            root.visititems(read_by_class)
            return layers, True
        for group in map(_text, named.attrs["layer_names"]):
            # LAYER/kernel:0 and so on, also of layers inside a layer
            for name in map(_text, named[group].attrs["weight_names"]):
                weights = _read_array(named[group][name])
                layers.setdefault(name.rpartition("/")[0], []).append(weights)
    return layers, False


def _read_array(held: h5py.Dataset) -> np.ndarray:
    values = np.asarray(held[()])
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{held.name} holds no numbers")
    return values


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _require_backbone(where: str, held: ModelOptions, wanted: ModelOptions) -> None:
    if held.backbone != wanted.backbone:
        other = f"--init_weights={where} holds a {held.backbone}, not a {wanted.backbone}"
        raise UserError(f"{other}: give --backbone={held.backbone}")
    if bool(held.regions) != bool(wanted.regions):
        other = f"--init_weights={where} was trained with --regions={held.regions or ''}"
        raise UserError(f"{other}: give the same")


def _build_plain(options: ModelOptions, weights: str | None) -> tf_keras.Model:
    shape = (options.image_size, options.image_size, image_ops.CHANNELS)
    return backbones.build_plain(options.backbone, shape, weights)


def _backbone_layers(model: Siamese) -> Variables:
    return _layer_weights(model.encoder.get_layer(backbones.NAME))


def _head_layers(model: Siamese) -> Variables:
    """Weights of the head's layers, and its variables that are in no layer."""
    modules = model.head.submodules
    layers = [module for module in modules if isinstance(module, tf_keras.layers.Layer)]
    inside = {variable.ref() for layer in layers for variable in layer.weights}
    others = [variable for variable in model.head.variables if variable.ref() not in inside]
    # Each region has layers of the same name, whose weights have the region's.
    scopes = [layer.weights[0].name.rpartition("/")[0] for layer in layers]
    return {
        f"{scope}/{layer.name}".strip("/"): layer.weights
        for scope, layer in zip(scopes, layers, strict=True)
    } | {variable.name.split(":")[0]: [variable] for variable in others}


def _last_backbone_layer(model: Siamese) -> str:
    return _stable_layer_names(model.encoder.get_layer(backbones.NAME).layers)[-1]


def _layer_weights(backbone: tf_keras.Model) -> Variables:
    named = zip(_stable_layer_names(backbone.layers), backbone.layers, strict=True)
    return {name: layer.weights for name, layer in named if layer.weights}


def _stable_layer_names(layers: Sequence[tf_keras.layers.Layer]) -> list[str]:
    return stable_names([layer.name for layer in layers])


def _values(layers: Variables) -> Arrays:
    return {name: [weight.numpy() for weight in weights] for name, weights in layers.items()}


def _compare(ours: list[tf.Variable], theirs: list[np.ndarray] | None) -> str | None:
    """Compares the shapes of a layer's weights; returns why they do not fit."""
    if theirs is None:
        return "not there"
    there, here = ([tuple(weight.shape) for weight in weights] for weights in (theirs, ours))
    return None if there == here else f"{_format(there)} there, {_format(here)} here"


def _format(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(" x ".join(map(str, shape)) for shape in shapes)


def _list_misfits(misfits: Reasons) -> str:
    listed = [f"{name} ({reason})" for name, reason in misfits.items() if reason]
    more = f" and {len(listed) - _LISTED_LAYERS:,} more" if len(listed) > _LISTED_LAYERS else ""
    return ", ".join(listed[:_LISTED_LAYERS]) + more

"""Weights files that tf_keras writes, read without a model that fits them: .h5, .weights.h5, .keras."""

import io
import zipfile

import h5py
import numpy as np

_WEIGHTS_OF_KERAS = "model.weights.h5"  # in a .keras file
_OF_WHOLE_MODEL = "model_weights"  # group of an .h5 file that holds more than weights
_OF_OPTIMIZER = "optimizer"

Layers = dict[str, list[np.ndarray]]


def read(path: str) -> tuple[Layers, bool]:
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

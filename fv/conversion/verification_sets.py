"""Verification sets: the .bin files of lfw, cfp_fp, agedb_30, calfw, cplfw and the like.

Such a file is a pickle of (images, labels). Images 2i and 2i + 1 are the encoded images of pair i,
as bytes or uint8 arrays, and label i says whether they show one person. Nothing names the people.
"""

import dataclasses
import hashlib
import io
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from fv import files
from fv.conversion import datasets, duplicates, folders
from fv.errors import UserError

SUFFIX = ".bin"

_SHOWN_DIGITS = 8  # of an image's digest, in its name
_SHOWN_NAME = 60  # characters of a name in a message
_MOST_READS = 5_000_000  # bounds the memory; a set of 14,000 images takes a million
# The opcodes of lists, tuples, bytes, text, booleans, integers, and of names and calls.
_OPCODES = b"\x80\x95.(]l)t\x85\x86\x87aeN\x88\x89IJKML\x8aSUTVX\x8c\x8dBC\x8e\x96pqr\x94ghjc\x93Rb"


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationSet:
    """Labelled pairs of images that lie in one file.

    Attributes:
      path: the file.
      images: the encoded bytes of each distinct image.
      names: a path for each of them, PERSON/NUMBER-DIGEST.jpg. NUMBER is that of the image in the
        file, from 0. PERSON stands for the images that genuine pairs join; one person may have
        several.
      first, second: int64 [n], the indices of the images of each pair.
      labels: int64 [n], 1 for a genuine pair and 0 for an impostor pair.
    """

    path: str
    images: Sequence[bytes]
    names: Sequence[str]
    first: np.ndarray
    second: np.ndarray
    labels: np.ndarray

    def pairs(self) -> pd.DataFrame:
        """The pairs as `fv.conversion.pair_lists` has them."""
        a, b = (np.array(self.names, object)[ends] for ends in (self.first, self.second))
        lines = np.arange(1, len(self.labels) + 1)
        listed = pd.Categorical([f"{self.path}, pair"] * len(lines))
        return pd.DataFrame({"a": a, "b": b, "label": self.labels, "line": lines, "list": listed})


def is_verification_set(path: str) -> bool:
    """Whether a path names a verification set."""
    return path.lower().endswith(SUFFIX) and not files.is_folder(path)


def load(path: str) -> VerificationSet:
    """Reads a verification set; images of equal bytes are one image.

    Raises:
      UserError: the file is damaged, or holds something else.
    """
    try:
        encoded, labels = _check(_Unpickler(files.read_bytes(path)).load())
    except BadPickle as error:
        raise UserError(
            f"{path} cannot be read as a verification set: {error}; give a pickle of (list of "
            "encoded images, list of booleans) as InsightFace writes it, or fetch it again"
        ) from error
    first_of: dict[bytes, int] = {}  # by digest, the number of the first such image
    firsts = [
        first_of.setdefault(hashlib.sha256(image).digest(), number)
        for number, image in enumerate(encoded)
    ]
    distinct, ends = np.unique(firsts, return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    people = duplicates.DisjointSets(len(distinct))
    people.join(first[labels == 1], second[labels == 1])
    stem = os.path.splitext(os.path.basename(path))[0]
    persons = distinct[people.roots(np.arange(len(distinct)))]
    names = [
        f"{stem}-{person:05d}/{number:05d}-{digest.hex()[:_SHOWN_DIGITS]}.jpg"
        for person, number, digest in zip(persons, distinct, first_of, strict=True)
    ]
    return VerificationSet(path, [encoded[at] for at in distinct], names, first, second, labels)


def unpack(found: VerificationSet, folder: str) -> datasets.Catalog:
    """Writes the images into a new scratch folder, and returns the catalog of the folder."""
    for name, image in zip(found.names, found.images, strict=True):
        path = os.path.join(folder, name)
        files.make_folder(os.path.dirname(path))
        # atomic_open would wait for the disk after each image, which takes twice the time
        with files.atomic_open(path, "wb") if files.is_remote(path) else open(path, "wb") as file:
            file.write(image)
    return folders.scan_folders([folder])._replace(naming=None)


def write(path: str, images: Sequence[bytes], labels: Sequence[bool]) -> None:
    """Writes a verification set as InsightFace does: encoded images, two for each label."""
    with files.atomic_open(path, "wb") as file:
        pickle.dump((list(images), list(labels)), file, protocol=pickle.HIGHEST_PROTOCOL)


class BadPickle(Exception):
    """The pickle is damaged, or holds something else than a verification set; says what."""


@dataclasses.dataclass
class _Array:
    """A NumPy array of a pickle, as its dtype (u1 for uint8, b1 for bool), shape and bytes."""

    dtype: str = ""
    shape: tuple[int, ...] = ()
    data: object = None

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, dtype, _, self.data = state
        self.dtype = dtype.name


class _Dtype:
    def __init__(self, name: str | bytes, *_: object):
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: object) -> None:
        """Byte order and the like, which bytes and booleans do not have."""


def _take_bytes(data: bytes | bytearray = b"") -> bytes:
    if not isinstance(data, bytes | bytearray):
        raise BadPickle("it makes bytes of something else")
    return bytes(data)


class _Unpickler(pickle._Unpickler):
    """Reads lists, tuples, bytes, booleans, integers and arrays of Python 2 and 3.

    Of the functions and classes that a pickle names, those of `find_class` have a stand-in, and all
    others are refused. The base class is the unpickler in Python: the one in C allocates what a
    pickle only claims to hold.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = {
        code: pickle._Unpickler.dispatch[code] for code in _OPCODES
    }

    def __init__(self, data: bytes):
        self._data, self._reads, self._encodable = io.BytesIO(data), 0, len(data)
        super().__init__(self, encoding="bytes")

    def load(self) -> Any:
        """Raises BadPickle: it is damaged, or holds something else."""
        try:
            return super().load()
        except BadPickle:
            raise
        except Exception as error:  # of many kinds
            where = self._data.tell()
            raise BadPickle(f"byte {where:,} makes no sense: it is damaged") from error

    def read(self, count: int) -> bytes:
        """Reads bytes of the file; the base class replaces it by one that calls it."""
        self._reads += 1
        if self._reads > _MOST_READS:
            raise BadPickle("it has too many steps for a verification set")
        data = self._data.read(count)
        if len(data) < count:
            raise BadPickle("it is cut short")
        return data

    def readline(self) -> bytes:
        """Reads a line of the file, as `read`."""
        line = self._data.readline()
        if not line.endswith(b"\n"):
            raise BadPickle("it is cut short")
        return line

    def find_class(self, module: str, name: str) -> Callable:
        """Returns what stands in for a function or class; BadPickle for all that are not needed."""
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        standing_in: dict[str, Callable] = {
            "_codecs.encode": self._encode,
            "__builtin__.bytes": _take_bytes,
            "builtins.bytes": _take_bytes,
            "__builtin__.bytearray": self._make_bytearray,
            "builtins.bytearray": self._make_bytearray,
            "numpy.dtype": _Dtype,
            "numpy.ndarray": _Array,
            "numpy.core.multiarray._reconstruct": lambda *_: _Array(),
            "numpy.core.multiarray.scalar": _read_scalar,
            "numpy.core.numeric._frombuffer": (
                lambda data, dtype, shape, _: _Array(dtype.name, shape, data)
            ),
        }
        if full not in standing_in:
            shown = "".join(filter(str.isprintable, full[:_SHOWN_NAME]))
            raise BadPickle(
                f"it names {shown}, and may run any program where it is loaded by pickle"
            )
        return standing_in[full]

    def _encode(self, text: str, encoding: str | bytes) -> bytes:
        """Makes bytes of text, as which protocols 0 to 2 of Python 3 write them."""
        if encoding not in ("latin1", "latin-1", b"latin1", b"latin-1"):
            raise BadPickle("it holds text of another encoding than Latin-1")
        self._encodable -= len(text)
        if self._encodable < 0:  # text that is in the file once, many times
            raise BadPickle("it holds more bytes than the file")
        return text.encode("latin-1")

    def _make_bytearray(self, data: bytes | str = b"", *encoding: str) -> bytes:
        return self._encode(data, *encoding) if isinstance(data, str) else _take_bytes(data)

    def _load_frame(self) -> None:
        self.read(8)  # all is read from the file, so that each step is counted

    def _load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise BadPickle("it has a state for no array")
        self.stack[-1].__setstate__(state)

    dispatch |= {
        pickle.FRAME[0]: _load_frame,
        pickle.BUILD[0]: _load_build,
        # The base class allocates the length of a bytearray before it reads.
        pickle.BYTEARRAY8[0]: dispatch[pickle.BINBYTES8[0]],
    }


def _read_scalar(dtype: _Dtype, data: bytes) -> bool:
    if dtype.name != "b1":
        raise BadPickle("it holds a number that is no boolean")
    return bool(data[0])


def _check(content: object) -> tuple[list[bytes], np.ndarray]:
    """The images and labels of a pickle's content."""
    images, labels = content if isinstance(content, list | tuple) and len(content) == 2 else (0, 0)
    if isinstance(labels, _Array) and labels.dtype == "b1" and isinstance(labels.data, bytes):
        labels = list(labels.data)
    if not isinstance(images, list | tuple) or not isinstance(labels, list | tuple):
        raise BadPickle("it does not hold two lists, images and labels")
    wrong = [number for number, label in enumerate(labels) if label not in (0, 1)]
    if wrong:
        raise BadPickle(f"label {wrong[0]} is no boolean")
    if not labels or len(images) != 2 * len(labels):
        raise BadPickle(f"it has {len(images):,} images for {len(labels):,} labels, not two each")
    encoded = [_take_image(image, number) for number, image in enumerate(images)]
    return encoded, np.array(labels, np.int64)


def _take_image(image: object, number: int) -> bytes:
    if isinstance(image, _Array):
        if image.dtype != "u1" or sum(size != 1 for size in image.shape) > 1:
            raise BadPickle(f"image {number} is no array of the bytes of an encoded image")
        image = image.data
    if not isinstance(image, bytes):
        raise BadPickle(f"image {number} is neither bytes nor an array of uint8")
    return image

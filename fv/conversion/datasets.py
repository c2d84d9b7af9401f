"""The catalog of a data source: which images there are, where their bytes are, and whose they are.

`fv.conversion.sources` finds the data source that --images names.
"""

import builtins
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray, ExtensionDtype
from pandas.api.indexers import check_array_indexer

from fv.conversion import identities

SUFFIXES = tuple(".jpg .jpeg .jpe .jfif .png .pgm .ppm .pnm .bmp .webp .tif .tiff .gif".split())
LABEL_NAMES = tuple("label identity person person_id class subject name cls id".split())
"""Columns and fields that hold the identity where no flag names one; the first wins."""

PASSED_OVER = ("suffix", "files", "example", "format", "advice")
"""Columns of `Catalog.passed_over`."""

_BLOCK = 4096  # strings that are made at once

Paths: TypeAlias = "Sequence[str] | PackedStrings"
Names: TypeAlias = "Sequence[str] | np.ndarray | pd.Categorical"  # of each image's identity


class Place(NamedTuple):
    """Where the bytes of an image are.

    Attributes:
      path: names the image; relative to the images folder.
      file: the file that holds it among others; '' where `path` is a file of its own.
      offset: where its bytes or its record begin in `file`; of Parquet, its row.
      span: bytes to read there.
      identity: its person.
    """

    path: str
    file: str = ""
    offset: int = 0
    span: int = 0
    identity: str = ""


class Catalog(NamedTuple):
    """What a data source holds. Every file is in exactly one of the three tables.

    Attributes:
      images: columns `path` (relative to `root`, with '/'; unique) and `identity` (categorical), in
        the order of the source. Where files hold many images, also the columns `file`
        (categorical), `place` and `span`: see `Place`.
      unusable: files that are named like an image and cannot be one, links to folders, and images
        without an identity; columns `path` and `reason`.
      passed_over: the other files by suffix, from `folders.count`.
      naming: finds the identity in a path; None where paths do not name it.
      root: the images folder, or the first of the files that hold many images.
    """

    images: pd.DataFrame
    unusable: pd.DataFrame
    passed_over: pd.DataFrame
    naming: identities.Naming | None = None
    root: str = ""


def list_images(paths: Paths, names: Names, merge_names: bool = False) -> pd.DataFrame:
    """Makes the table of `Catalog.images` from paths and names of identities."""
    if merge_names:
        joined = identities.join_names(set(names))
        names = [joined.get(name, name) for name in names]
    if not isinstance(names, pd.Categorical):
        # Codes take less memory than a string for each path.
        names = pd.Categorical(pd.Index(names, dtype=object))
    held = paths if isinstance(paths, PackedStrings) else pd.Series(paths, dtype=object)
    return pd.DataFrame({"path": held, "identity": names})


def list_held_images(
    paths: Iterable[str],
    names: Names,
    merge_names: bool,
    holders: Sequence[str],
    held_in: tuple[Sequence[int] | np.ndarray, ...],
    unusable: Iterable[tuple[str, str]],
) -> Catalog:
    """Makes the catalog of `holders`, files that hold many images; see `Place`.

    `held_in` has the number of each image's holder, its place and its span; `unusable` has paths
    and reasons.
    """
    images = list_images(PackedStrings.pack(paths), names, merge_names)
    codes, places, spans = held_in
    file = pd.Categorical.from_codes(np.asarray(codes, np.int32), pd.Index(holders, dtype=object))
    spans = np.minimum(np.asarray(spans, np.int64), np.iinfo(np.uint32).max).astype(np.uint32)
    images = images.assign(file=file, place=np.asarray(places, np.int64), span=spans)
    others = pd.DataFrame(columns=list(PASSED_OVER)).astype({"files": int})
    return Catalog(images, list_unusable(unusable), others, root=holders[0])


def list_unusable(found: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Makes the table of `Catalog.unusable` from paths and reasons."""
    return pd.DataFrame(sorted(found), columns=["path", "reason"], dtype=object)


def list_places(images: pd.DataFrame) -> Iterator[Place]:
    """Yields where the bytes of each image of a `Catalog.images` are."""
    if "file" not in images:
        return map(Place, images["path"])
    columns = (images[name] for name in ("path", "file", "place", "span", "identity"))
    return map(Place._make, zip(*columns, strict=True))


def describe_unread(paths: Iterable[str]) -> pd.DataFrame:
    """The paths that have none of `SUFFIXES`, as in `Catalog.unusable`."""
    rows = []
    for path in set(paths):
        if not is_image_name(path):
            suffix = os.path.splitext(path)[1]
            named = f"'{suffix}' is not the suffix" if suffix else "it has no suffix"
            advice = "convert the file to JPEG or PNG, or rename it if it is one"
            rows.append((path, f"{named} of an image that fv reads: {advice}"))
    return list_unusable(rows)


def is_image_name(path: str) -> bool:
    """Whether a path has one of `SUFFIXES`."""
    return path.lower().endswith(SUFFIXES)


class PackedDtype(ExtensionDtype):
    """The type of a column of `PackedStrings`."""

    name = "packed"
    type = str

    @classmethod
    def construct_array_type(cls) -> "builtins.type[PackedStrings]":
        return PackedStrings


class PackedStrings(ExtensionArray):
    """Millions of strings in a column, in 8 bytes each beside their text; immutable.

    The text is in UTF-8, one after the other, and selections share it. A Python string takes 49
    bytes beside its text, and a pointer.

    Indexing with an integer gives a str, with anything else PackedStrings. NumPy gets objects.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray, rows: np.ndarray | None = None):
        """Args:
        text: uint8, all strings.
        ends: of each string in `text`, int64 [n + 1], the first of them 0.
        rows: which of the strings, int64 or int32; None for all.
        """
        self._text, self._ends, self._rows = text, ends, rows

    @classmethod
    def pack(cls, strings: Iterable[str]) -> Self:
        """Packs strings, which are drawn one at a time."""
        text, ends = bytearray(), [np.zeros(1, np.int64)]
        block: list[int] = []
        for string in strings:
            text += string.encode("utf-8", "surrogateescape")
            block.append(len(text))
            if len(block) == _BLOCK:
                ends.append(np.array(block, np.int64))
                block = []
        ends.append(np.array(block, np.int64))
        return cls(np.frombuffer(text, np.uint8), np.concatenate(ends))

    def __len__(self) -> int:
        return len(self._ends) - 1 if self._rows is None else len(self._rows)

    def __getitem__(self, item: Any) -> Any:
        item = check_array_indexer(self, item)
        if isinstance(item, (int, np.integer)):
            row = range(len(self))[item]
            row = row if self._rows is None else self._rows[row]
            start, end = self._ends[row : row + 2]
            return self._text[start:end].tobytes().decode("utf-8", "surrogateescape")
        rows = np.arange(len(self), dtype=np.int32) if self._rows is None else self._rows
        return type(self)(self._text, self._ends, rows[item])

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = np.empty(len(self), object)
        found[:] = list(self)
        return found

    def __eq__(self, other: Any) -> Any:
        return np.asarray(self) == np.asarray(other, object)

    def isin(self, values: Iterable[Any]) -> np.ndarray:
        """Whether each string is one of `values`, bool [n]."""
        wanted = set(values)
        return np.fromiter((string in wanted for string in self), bool, len(self))

    dtype = PackedDtype()

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        arrays = (self._text, self._ends, self._rows)
        return sum(each.nbytes for each in arrays if each is not None)

    def isna(self) -> np.ndarray:
        return np.zeros(len(self), bool)

    def copy(self) -> Self:
        return type(self)(self._text, self._ends, self._rows)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        indices = np.asarray(indices)
        if allow_fill and (indices < 0).any():
            raise ValueError("packed strings cannot be missing")
        return self[indices]

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> Self:
        return cls.pack(scalars)

    @classmethod
    def _concat_same_type(cls, to_concat: Any) -> Self:
        return cls.pack(string for each in to_concat for string in each)

    def _formatter(self, boxed: bool = False) -> Callable[[Any], str]:
        return str

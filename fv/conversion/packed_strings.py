"""Millions of strings in a column of a table, in 8 bytes each beside their text.

A Python string takes 49 bytes beside its text, and a pointer.
"""

import builtins
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
from pandas.api.extensions import ExtensionArray, ExtensionDtype
from pandas.api.indexers import check_array_indexer

_BLOCK = 4096  # strings that are made at once


class PackedDtype(ExtensionDtype):
    """The type of a column of `PackedStrings`."""

    name = "packed"
    type = str

    @classmethod
    def construct_array_type(cls) -> "builtins.type[PackedStrings]":
        return PackedStrings


class PackedStrings(ExtensionArray):
    """Strings in UTF-8, one after the other; immutable. A selection shares their text.

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

"""InsightFace's RecordIO: a .rec of labelled images, and a .idx that says where records begin.

The .idx has a line `key TAB byte` for each record. A record is one part, or several where its data
holds the magic number at a multiple of four bytes. Its data is a header (flag, label, two numbers),
`flag` further labels, and the image. Where labels follow, the first one is the identity.

InsightFace keeps two keys in record 0. Images have the keys below the first, identities those from
the first to the second. The record of an identity holds the range of the keys of its images.

Source: https://mxnet.apache.org/versions/1.9.1/api/faq/recordio, and pack in mxnet/recordio.py.
"""

import os
import struct
from typing import IO, Any

import numpy as np
import pandas as pd

from fv import files, progress
from fv.conversion import datasets
from fv.conversion.datasets import Catalog, Place
from fv.conversion.image_files import BadImage
from fv.errors import UserError

SUFFIX = ".rec"
MAGIC = 0xCED7230A

_PART = struct.Struct("<II")  # magic number; length, with the kind of the part in its upper bits
_LENGTH_BITS = 29
_LONGEST = (1 << _LENGTH_BITS) - 1
_WHOLE, _FIRST, _LAST = 0, 1, 3  # kinds of parts
_HEADER = struct.Struct("<IfQQ")  # flag, label, two numbers
_HEAD = np.dtype(  # the first bytes of a record
    [
        ("magic", "<u4"),
        ("part", "<u4"),
        ("flag", "<u4"),
        ("label", "<f4"),
        ("numbers", "<u8", (2,)),
        ("labels", "<f4", (2,)),  # the first of the image's bytes where `flag` is less than 2
    ]
)
_DAMAGED = "damaged record: it does not begin with RecordIO's magic number"
_CUT = "a record that is cut short, or larger than any image within --max_megapixels"
_EXACT = 1 << 24  # float32 holds whole numbers up to it, and the ranges are float32
_BLOCK = 1 << 16  # heads or keys at once
_READ_BYTES = 1 << 20  # at first: behind the record, the file may hold others that have no index


def list_images(path: str) -> Catalog:
    """Lists the images of a .rec from its .idx, in the order of their keys.

    Only the records of identities and the first image of each are read if record 0 has ranges that
    agree with the index; otherwise the head of every record is. An image's path is FILE/KEY.

    Raises:
      UserError: there is no index, it does not belong to the file, or the file is no RecordIO.
    """
    keys, offsets, spans = _read_index(path)
    with files.open_bytes(path, buffering=0) as file:
        first = _read_heads(file, offsets[:1])[0]
        if first["magic"] != MAGIC:
            raise UserError(
                f"{path} is not a RecordIO file, or its .idx is that of another: no record begins "
                f"at byte {offsets[0]}, where the .idx puts record {keys[0]}"
            )
        found = _find_ranges(file, keys, offsets, first) or _find_labels(file, keys, offsets)
    rows, labels, unusable = found
    known, codes = np.unique(labels, return_inverse=True)
    names = np.array([f"{label:.0f}" for label in known.tolist()], object)
    base = os.path.basename(path)
    blocks = np.array_split(keys[rows], len(rows) // _BLOCK + 1)  # a Python int takes 40 bytes
    paths = (f"{base}/{key}" for block in blocks for key in block.tolist())
    bad = ((f"{base}/{key}", reason) for key, reason in unusable)
    held_in = (np.zeros(len(rows)), offsets[rows], spans[rows])
    return datasets.list_held_images(paths, names[codes], False, [path], held_in, bad)


def read_image(place: Place, most: int) -> tuple[bytes, int | None]:
    """Reads the image of a record, of at most `most` bytes; results as `sources.read_image`.

    Raises:
      BadImage: the record is damaged, too large or of another identity.
      OSError: it cannot be read.
    """
    data = files.read_bytes(place.file, place.offset, min(place.span, _READ_BYTES))
    if len(data) < min(place.span, most):
        magic, part = _PART.unpack_from(data.ljust(_PART.size, b"\0"))
        if magic == MAGIC and (part >> _LENGTH_BITS != _WHOLE or part + _PART.size > len(data)):
            data = files.read_bytes(place.file, place.offset, min(place.span, most))
    record, whole = _join_parts(data)
    if len(record) < _HEADER.size:
        raise BadImage("a record without a header")
    flag, label, *_ = _HEADER.unpack_from(record)
    start = _HEADER.size + 4 * flag
    if start > len(record):
        raise BadImage(f"a record whose header promises {flag:,} labels")
    if flag:
        (label,) = struct.unpack_from("<f", record, _HEADER.size)
    if f"{label:.0f}" != place.identity:
        raise BadImage(f"its label {label:g} is not that of its identity, {place.identity}")
    return record[start:], place.offset + _PART.size + start if whole else None


def _read_index(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The keys in order, the first byte of each record, and the bytes to the next one; int64."""
    index = f"{os.path.splitext(path)[0]}.idx"
    if not files.exists(index):
        raise UserError(
            f"{index} is missing: it says where the records of {path} begin; copy it from where "
            "you got the .rec, or make it with mxnet's tools/rec2idx.py"
        )
    try:
        with files.open_bytes(index) as file:
            columns = {"key": np.int64, "offset": np.int64}
            table = pd.read_csv(
                file, sep="\t", header=None, names=list(columns), index_col=False, dtype=columns
            )
    except (ValueError, OverflowError) as error:  # so is a parser error of pandas
        first = str(error).splitlines()[0]
        raise UserError(
            f"{index} has not a line 'key TAB byte' for each record: {first}"
        ) from error
    offsets, size = table["offset"].to_numpy(), files.size(path)
    wrong = np.flatnonzero((offsets < 0) | (offsets > size - _PART.size) | (offsets % 4 != 0))
    if len(wrong) or not len(table):
        row = int(wrong[0]) if len(wrong) else 0
        what = "lists nothing"
        if len(wrong):
            what = f"line {row + 1}: no record can begin at byte {offsets[row]}"
        raise UserError(
            f"{index}, {what}, and {path} has {size} bytes: one of the files was cut short, or "
            "they do not belong together"
        )
    order = np.argsort(table["key"].to_numpy(), kind="stable")
    keys, offsets = table["key"].to_numpy()[order], offsets[order]
    again = np.flatnonzero(keys[1:] == keys[:-1])
    if len(again):
        raise UserError(f"{index} lists record {keys[again[0]]} twice: get the file again")
    starts = np.append(np.unique(offsets), size)
    return keys, offsets, starts[np.searchsorted(starts, offsets, side="right")] - offsets


def _find_ranges(
    file: IO[bytes], keys: np.ndarray, offsets: np.ndarray, first: np.void
) -> tuple[np.ndarray, np.ndarray, list] | None:
    """The rows of images and their labels by the ranges of identities; None without such ranges."""
    begin, end = (float(each) for each in first["labels"])
    if keys[0] != 0 or first["flag"] != 2 or not 1 < begin < end < _EXACT:
        return None
    first_row, last_row = np.searchsorted(keys, [int(begin), int(end)])
    if last_row - first_row != int(end) - int(begin):
        return None
    heads = _read_heads(file, offsets[first_row:last_row])
    if not ((heads["magic"] == MAGIC) & (heads["flag"] == 2)).all():
        return None
    ranges = heads["labels"][heads["labels"][:, 1] > heads["labels"][:, 0]]
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    rows = np.arange(1, first_row)
    owner = np.searchsorted(ranges[:, 0], keys[rows], side="right") - 1
    if not len(ranges) or (owner < 0).any() or (keys[rows] >= ranges[owner, 1]).any():
        return None
    # The number of an identity is its images' label, which need not be the place of its record.
    used, firsts = np.unique(owner, return_index=True)
    labels, sound = _labels(_read_heads(file, offsets[rows[firsts]]))
    return (rows, labels[np.searchsorted(used, owner)], []) if sound.all() else None


def _find_labels(
    file: IO[bytes], keys: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list]:
    """The rows of images, their labels, and the key and reason of damaged records."""
    rows, labels, unusable = [], [], []
    with progress.Progress(len(keys), "index", "record") as bar:
        for at in range(0, len(keys), _BLOCK):
            heads = _read_heads(file, offsets[at : at + _BLOCK])
            found, sound = _labels(heads)
            for row in np.flatnonzero(~sound):
                no_label = f"its label {found[row]:g} is no whole number"
                damage = no_label if heads["magic"][row] == MAGIC else _DAMAGED
                unusable.append((int(keys[at + row]), damage))
            # Records of identities hold labels only.
            labels_end = _HEADER.size + 4 * heads["flag"].astype(np.int64)
            sound &= (heads["part"] & _LONGEST) > labels_end
            rows.append(at + np.flatnonzero(sound))
            labels.append(found[sound])
            bar.update(len(heads))
    return np.concatenate(rows), np.concatenate(labels), unusable


def _labels(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The label of each record, float32 [n], and whether it can be one, bool [n]."""
    labels = np.where(heads["flag"] == 0, heads["label"], heads["labels"][:, 0])
    return labels, (heads["magic"] == MAGIC) & (labels == np.floor(labels)) & np.isfinite(labels)


def _read_heads(file: Any, offsets: np.ndarray) -> np.ndarray:
    """The first bytes of records, `_HEAD` [n]; zeros behind the end of the file."""
    size, found = _HEAD.itemsize, bytearray()
    for offset in offsets.tolist():
        file.seek(offset)
        found += file.read(size).ljust(size, b"\0")
    return np.frombuffer(bytes(found), _HEAD)


def _join_parts(data: bytes) -> tuple[bytes, bool]:
    """The data of the record that `data` begins with, and whether it is one part."""
    parts: list[bytes] = []
    at, kind = 0, _FIRST
    while kind not in (_WHOLE, _LAST):
        if at + _PART.size > len(data):
            raise BadImage(_CUT)
        magic, part = _PART.unpack_from(data, at)
        if magic != MAGIC:
            raise BadImage(_DAMAGED)
        start, kind, length = at + _PART.size, part >> _LENGTH_BITS, part & _LONGEST
        if start + length > len(data):
            raise BadImage(_CUT)
        parts.append(data[start : start + length])
        at = start + length + -length % 4
    # The magic number parts them, and was left out.
    return struct.pack("<I", MAGIC).join(parts), kind == _WHOLE

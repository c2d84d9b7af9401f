"""Files that are passed over because of their suffix: counted by it, and named by their first bytes."""

import bisect
import collections
import functools
import os
import re
import stat
from collections.abc import Iterable

import pandas as pd

from fv import files

COLUMNS = ("suffix", "files", "example", "format", "advice")
HIDDEN = "hidden"  # files whose name, or a folder's above them, starts with a dot
NO_SUFFIX = "without a suffix"

_LOOKED_AT = 16  # files of one suffix whose first bytes are read: a million .txt files cost nothing
_LOOKED_AT_REMOTE = 2  # a remote file costs a request
_SUFFIXES_LOOKED_AT = 100
_HEAD_BYTES = 64
_SHOWN = 10  # suffixes in a line of text
_SUFFIX = re.compile(r"\.(?=.*[^\W\d_])[^\s.]{1,12}")  # has a letter, unlike that of '1.0001'
_RAW = frozenset((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"))

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "PSD"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"IIRO", "camera raw"),
    (b"IIU\0", "camera raw"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\0\0\1\xba", "video"),
    (b"PK\3\4", "archive"),
    (b"\x1f\x8b", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"),
    (b"Rar!\x1a\x07", "archive"),
)
_BRANDS = (  # of ISO/IEC 14496-12 files; the first that matches the file's own or compatible ones
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    ((b"crx ",), "camera raw"),
)
_RENAMED = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "GIF": ".gif",
    "BMP": ".bmp",
    "WebP": ".webp",
    "PNM": ".pnm",
}
_ADVICE = {
    "HEIC": "convert it to JPEG, for example with: heif-convert IN.heic OUT.jpg",
    "AVIF": "convert it to JPEG, for example with: magick IN.avif OUT.jpg",
    "JPEG 2000": "convert it to PNG, for example with: magick IN.jp2 OUT.png",
    "JPEG XL": "convert it to JPEG, for example with: djxl IN.jxl OUT.jpg",
    "TIFF": "convert it to PNG, for example with: magick IN OUT.png",
    "PSD": "convert it to PNG, for example with: magick 'IN.psd[0]' OUT.png",
    "SVG": "it is a drawing: convert it to PNG if it shows a face",
    "PDF": "convert its pages to PNG, for example with: pdftoppm -png IN.pdf OUT",
    "PostScript": "convert it to PNG, for example with: magick IN.eps OUT.png",
    "camera raw": "develop it to JPEG, for example with: dcraw -c -w IN | magick - OUT.jpg",
    "video": "extract its frames as JPEG, for example with: ffmpeg -i IN OUT_%04d.jpg",
    "archive": "unpack it",
}


def count(root: str, paths: Iterable[str]) -> pd.DataFrame:
    """Counts files by suffix and recognises the format of some of them by their first bytes.

    Args:
      root: the images folder.
      paths: of the files below `root`, as the operating system names them.

    Returns:
      A table with `COLUMNS`, the most frequent suffix first: the suffix in lower case, `HIDDEN` or
      `NO_SUFFIX`; the number of files; the path of one; the formats that were recognised and what to
      do about them, '' where there is none.
    """
    numbers: collections.Counter[str] = collections.Counter()
    first: dict[str, list[str]] = collections.defaultdict(list)
    for path in paths:
        suffix = _suffix_of(path)
        numbers[suffix] += 1
        kept = first[suffix]
        if (
            len(kept) < _LOOKED_AT or path < kept[-1]
        ):  # the same few whatever the order of the files
            bisect.insort(kept, path)
            del kept[_LOOKED_AT:]
    most_frequent = sorted(numbers, key=lambda suffix: (-numbers[suffix], suffix))
    rows = []
    for number, suffix in enumerate(most_frequent):
        kept = first[suffix]
        examples = (
            _recognise(root, kept) if suffix != HIDDEN and number < _SUFFIXES_LOOKED_AT else {}
        )
        example = printable(next(iter(examples.values()), kept[0]))
        advice = "; ".join(f"{format} data: {_advise(format, suffix)}" for format in examples)
        rows.append((suffix, numbers[suffix], example, ", ".join(examples), advice))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"files": int})


def summarise(table: pd.DataFrame) -> str:
    """One line that counts the files by suffix, as in '6 files passed over: 4 .heic, 2 without a suffix'."""
    total = int(table["files"].sum())
    kinds = [f"{row.files:,} {row.suffix}" for row in table.head(_SHOWN).itertuples()]
    if len(table) > _SHOWN:
        kinds.append(f"{int(table['files'][_SHOWN:].sum()):,} others")
    said = f"{total:,} {'file' if total == 1 else 'files'} passed over"
    return f"{said}: {', '.join(kinds)}" if kinds else said


def advise(table: pd.DataFrame) -> list[str]:
    """One line for each suffix whose files look like something that can be used after a change."""
    return [
        f"{row.suffix} ({row.example}): {row.advice}" for row in table.itertuples() if row.advice
    ]


def recognise(head: bytes) -> str:
    """The format that a file's first `_HEAD_BYTES` bytes are of, '' where it is not known."""
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, len(head) - 3, 4))]
        return next(
            (name for known, name in _BRANDS if any(brand in known for brand in brands)), "video"
        )
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video"}.get(head[8:12], "")
    if re.match(rb"P[1-6]\s", head):
        return "PNM"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if b"<svg" in head:
        return "SVG"
    return next((name for start, name in _STARTS if head.startswith(start)), "")


def describe(head: bytes) -> str:
    """What a file is that no decoder here reads, and what to do about it, by its first bytes; '' where that is not known."""
    format = recognise(head[:_HEAD_BYTES])
    return f"{format} data: {_ADVICE[format]}" if format in _ADVICE else ""


def printable(path: str) -> str:
    """The path, with bytes that are not UTF-8 written as \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _suffix_of(path: str) -> str:
    if path.startswith(".") or "/." in path:
        return HIDDEN
    return _class_of(os.path.splitext(path)[1])


@functools.lru_cache
def _class_of(suffix: str) -> str:
    return printable(suffix.lower()) if _SUFFIX.fullmatch(suffix.lower()) else NO_SUFFIX


def _recognise(root: str, paths: list[str]) -> dict[str, str]:
    """By format, the first of the files that is of it."""
    remote, found = files.is_remote(root), {}
    for path in paths[: _LOOKED_AT_REMOTE if remote else _LOOKED_AT]:
        format = recognise(_read_head(os.path.join(root, path), remote))
        if format == "TIFF" and _suffix_of(path) in _RAW:
            format = "camera raw"
        if format:
            found.setdefault(format, path)
    return found


def _read_head(path: str, remote: bool) -> bytes:
    """The first bytes of a regular file; b'' of a link, a pipe or what cannot be read."""
    try:
        if not remote and not stat.S_ISREG(os.lstat(path).st_mode):
            return b""
        return files.read_bytes(path, 0, _HEAD_BYTES)
    except OSError:
        return b""


def _advise(format: str, suffix: str) -> str:
    if format in _RENAMED:
        return f"rename it to {_RENAMED[format]}"
    return _ADVICE[format]

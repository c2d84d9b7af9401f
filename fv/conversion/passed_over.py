"""Files without the suffix of an image: counted by suffix, and recognised by their first bytes."""

import bisect
import collections
import functools
import os
import re
import stat
from collections.abc import Iterable, Sequence

import pandas as pd

from fv import files
from fv.conversion import jpeg

COLUMNS = ("suffix", "files", "example", "format", "advice")
HIDDEN = "hidden"  # files whose name, or that of a folder above them, starts with a dot
NO_SUFFIX = "without a suffix"

_HEAD_BYTES = 64
_READ_PER_SUFFIX = 16  # files whose first bytes are read: a million .txt files cost nothing
_READ_PER_SUFFIX_REMOTE = 2  # a remote file costs a request
_SUFFIXES_READ = 100
_SUFFIXES_SHOWN = 10  # in a line of text
_SUFFIX = re.compile(r"\.(?=.*[^\W\d_])[^\s.]{1,12}")  # has a letter, unlike that of '1.0001'
_CONTAINERS = (".rec", ".tar", ".parquet", ".bin")  # that --images takes
_RAW = frozenset(".arw .cr2 .cr3 .dng .nef .orf .pef .raf .rw2 .srw".split())

_MAGICS = {  # by format, what its files begin with
    "JPEG": (jpeg.START,),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF8",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"),
    "PSD": (b"8BPS",),
    "PDF": (b"%PDF",),
    "PostScript": (b"%!PS",),
    "camera raw": (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\0"),
    "video": (b"\x1aE\xdf\xa3", b"\0\0\1\xba"),
    "archive": (b"PK\3\4", b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"),
}
_BRANDS = {  # of ISO/IEC 14496-12 files, major or compatible; the first format that matches wins
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "camera raw": (b"crx ",),
}
_RENAME = {"JPEG": "rename it to .jpg"} | {
    format: f"rename it to .{format.lower()}" for format in ("PNG", "GIF", "BMP", "WebP", "PNM")
}
CONVERT = {  # advice on formats that fv does not read
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
    """Counts files below `root` by suffix and recognises the format of some of them.

    Returns:
      A table with `COLUMNS`, the most frequent suffix first: the suffix in lower case, `HIDDEN` or
      `NO_SUFFIX`; the number of files; the path of one; the recognised formats and what to do about
      them, '' where no format was recognised.
    """
    counts: collections.Counter[str] = collections.Counter()
    first: dict[str, list[str]] = collections.defaultdict(list)
    for path in paths:
        suffix = _suffix_of(path)
        counts[suffix] += 1
        kept = first[suffix]  # the same files in whatever order a file system lists them
        if len(kept) < _READ_PER_SUFFIX or path < kept[-1]:
            bisect.insort(kept, path)
            del kept[_READ_PER_SUFFIX:]
    rows = []
    for rank, suffix in enumerate(sorted(counts, key=lambda suffix: (-counts[suffix], suffix))):
        examples: dict[str, str] = {}
        if suffix != HIDDEN and rank < _SUFFIXES_READ:
            examples = _recognise_files(root, first[suffix])
        example = printable(next(iter(examples.values()), first[suffix][0]))
        advice = "; ".join(f"{format} data: {(_RENAME | CONVERT)[format]}" for format in examples)
        if suffix in _CONTAINERS:
            advice = "give its folder as --images, or the file"
        rows.append((suffix, counts[suffix], example, ", ".join(examples), advice))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"files": int})


def add(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Adds up tables of `count`; of each suffix the first example and advice stay."""
    if len(tables) == 1:
        return tables[0]
    kept = {name: "sum" if name == "files" else "first" for name in COLUMNS[1:]}
    added = pd.concat(tables).groupby("suffix", as_index=False).agg(kept)
    return added.sort_values("files", ascending=False, kind="stable", ignore_index=True)


def summarise(table: pd.DataFrame) -> str:
    """One line such as '6 files passed over: 4 .heic, 2 without a suffix'."""
    total = int(table["files"].sum())
    kinds = [f"{row.files:,} {row.suffix}" for row in table.head(_SUFFIXES_SHOWN).itertuples()]
    if len(table) > _SUFFIXES_SHOWN:
        kinds.append(f"{int(table['files'][_SUFFIXES_SHOWN:].sum()):,} others")
    text = f"{total:,} {'file' if total == 1 else 'files'} passed over"
    return f"{text}: {', '.join(kinds)}" if kinds else text


def advise(table: pd.DataFrame) -> list[str]:
    """One line for each suffix whose files fv could use after a change."""
    return [
        f"{row.suffix} ({row.example}): {row.advice}" for row in table.itertuples() if row.advice
    ]


def recognise(data: bytes) -> str:
    """The format of a file by its first bytes, '' where it is not known."""
    head = data[:_HEAD_BYTES]
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[at : at + 4] for at in range(16, len(head) - 3, 4))]
        return next((name for name, known in _BRANDS.items() if {*known} & {*brands}), "video")
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video"}.get(head[8:12], "")
    if re.match(rb"P[1-6]\s", head):
        return "PNM"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "BMP"
    if b"<svg" in head:
        return "SVG"
    return next((name for name, magics in _MAGICS.items() if head.startswith(magics)), "")


def printable(path: str) -> str:
    """The path, with bytes that are not UTF-8 written as \\xNN."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _suffix_of(path: str) -> str:
    if path.startswith(".") or "/." in path:
        return HIDDEN
    return _normal_suffix(os.path.splitext(path)[1])


@functools.lru_cache
def _normal_suffix(suffix: str) -> str:
    return printable(suffix.lower()) if _SUFFIX.fullmatch(suffix.lower()) else NO_SUFFIX


def _recognise_files(root: str, paths: list[str]) -> dict[str, str]:
    """The first file of each format, by format."""
    remote = files.is_remote(root)
    found: dict[str, str] = {}
    for path in paths[: _READ_PER_SUFFIX_REMOTE if remote else _READ_PER_SUFFIX]:
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

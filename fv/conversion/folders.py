"""Lists folders that hold one folder of images per identity; no image is opened.

Files without the suffix of an image are counted by suffix, and recognised by their first bytes.
"""

import bisect
import collections
import functools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from fv import files
from fv.conversion import datasets, identities
from fv.conversion.datasets import Catalog
from fv.errors import UserError

LINK = "a symbolic link"  # begins every reason against a link
COPY = "copy the images with cp -rL FROM TO, which copies what links point to, and give --images=TO"

_IMAGE, _PASSED_OVER = "", None  # verdicts on a file; any other is the reason why it is unusable
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
    "JPEG": (b"\xff\xd8\xff",),
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

Entry = tuple[str, str | None]  # a path relative to the images folder, and the verdict on it


def scan_folders(
    folders: Sequence[str], identity_level: int = 1, merge_names: bool = False
) -> Catalog:
    """Lists the images below folders. Links to folders are not followed.

    Args:
      folders: images folders; of several, paths begin below the folder that holds all of them.
      identity_level: which folder of an image's path names its identity, from 1. Deeper folders
        belong to that identity.
      merge_names: take folders for one identity whose names are equal after `identities.normalise`.

    Raises:
      UserError: no such folder, or one folder lies in another.
    """
    root, bases = folders[0], [""]
    if len(folders) > 1:
        real = os.path.realpath
        ends = [f.rstrip("/") if files.is_remote(f) else real(f) for f in folders]
        root = f"{ends[0]}/"
        while not all(f"{end}/".startswith(root) for end in ends):
            root = f"{root.rstrip('/').rpartition('/')[0]}/"
        bases = [f"{end}/"[len(root) :] for end in ends]
        for folder, base in zip(folders, bases, strict=True):
            if sum(other.startswith(base) for other in bases) > 1:
                raise UserError(f"--images: {folder} holds another of the folders: give one")
    paths: list[str] = []
    unusable: list[tuple[str, str]] = []
    others = []
    for folder, base in zip(folders, bases, strict=True):
        found, bad, table = list_files(folder, identity_level)
        paths += [base + path for path in found]
        unusable += [(base + path, reason) for path, reason in bad]
        others.append(table.assign(example=base + table["example"]))
    naming = identities.Naming(identity_level, bases=tuple(bases))
    if merge_names:
        joined = identities.join_names({naming.identity_of(path) for path in paths})
        naming = identities.Naming(identity_level, joined, tuple(bases))
    return Catalog(
        datasets.list_images(paths, [naming.identity_of(path) for path in paths]),
        datasets.list_unusable(unusable),
        add(others),
        naming,
        root,
    )


def list_files(
    root: str, identity_level: int = 0
) -> tuple[list[str], list[tuple[str, str]], pd.DataFrame]:
    """Lists the files below a folder; an image has to lie `identity_level` folders deep.

    Returns:
      Sorted images, unusable files with the reason, and the others as `count`.

    Raises:
      UserError: no such folder.
    """
    if not files.is_folder(root):
        raise UserError(
            f"--images={root} is not a folder: "
            "give the folder that holds one folder of images per person"
        )
    paths: list[str] = []
    unusable: list[tuple[str, str]] = []

    def sort_entries(entries: Iterable[Entry]) -> Iterator[str]:
        """Fills both lists, and yields what is passed over: there may be millions of such files."""
        for path, verdict in entries:
            if verdict is _PASSED_OVER:
                yield path
            elif verdict != _IMAGE:
                unusable.append((path, verdict))
            elif path.count("/") >= identity_level:
                paths.append(path)
            elif "/" not in path:
                unusable.append((path, "not in an identity's folder"))
            else:
                where = f"where --identity_level={identity_level} looks for people"
                unusable.append((path, f"not in a folder of level {identity_level}, {where}"))

    if files.is_remote(root):
        others = count(root, sort_entries(_walk_remote(root)))
    else:
        root = os.path.realpath(root)
        others = count(root, sort_entries(_walk(root)))
    return sorted(paths), sorted(unusable), others


def holds_people(folder: str) -> bool:
    """Whether a local folder holds a folder with an image; stops at the first."""
    entries = _walk(os.path.realpath(folder))
    return any(verdict == _IMAGE and "/" in path for path, verdict in entries)


def count(root: str, paths: Iterable[str]) -> pd.DataFrame:
    """Counts files below `root` by suffix and recognises the format of some of them.

    Returns:
      A table with `datasets.PASSED_OVER`, the most frequent suffix first: the suffix in lower case,
      `HIDDEN` or `NO_SUFFIX`; the number of files; the path of one; the recognised formats and what
      to do about them, '' where no format was recognised.
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
    return pd.DataFrame(rows, columns=list(datasets.PASSED_OVER)).astype({"files": int})


def add(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Adds up tables of `count`; of each suffix the first example and advice stay."""
    if len(tables) == 1:
        return tables[0]
    kept = {name: "sum" if name == "files" else "first" for name in datasets.PASSED_OVER[1:]}
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


def _walk(root: str, folder: str = "", inherited: str | None = _IMAGE) -> Iterator[Entry]:
    """Yields every file below `folder` with the verdict on it.

    Args:
      root: the images folder, without links in its own path.
      folder: relative to `root`.
      inherited: the verdict on everything in `folder`; `_IMAGE` where each entry gets its own.
    """
    try:
        entries = os.scandir(os.path.join(root, folder))
    except PermissionError:
        if inherited is not _PASSED_OVER:
            raise
        yield folder, _PASSED_OVER  # another user's hidden folder, such as a trash folder
        return
    with entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            verdict = _PASSED_OVER if entry.name.startswith(".") else inherited
            if entry.is_dir(follow_symlinks=False):
                if verdict == _IMAGE and folder and datasets.is_image_name(path):
                    yield printable(path), "a folder with an image's name"
                    verdict = "in a folder with an image's name: rename the folder"
                yield from _walk(root, path, verdict)
                continue
            if verdict == _IMAGE:
                verdict = _check_entry(root, path, entry)
            # What is passed over keeps its bytes, because its first bytes are read.
            yield path if verdict is _PASSED_OVER else printable(path), verdict


def _check_entry(root: str, path: str, entry: os.DirEntry) -> str | None:
    """The verdict on an entry that is no folder, without opening it."""
    if entry.is_symlink():
        if not (datasets.is_image_name(path) or files.is_folder(entry.path)):
            return _PASSED_OVER
        if not files.exists(entry.path):
            return f"{LINK} to nothing: remove it, or restore what it points to"
        if not os.path.realpath(entry.path).startswith(root + os.sep):
            return f"{LINK} that leaves the images folder: {COPY}"
        if entry.is_dir():
            return f"{LINK} to a folder: {COPY}"
    elif not datasets.is_image_name(path):
        return _PASSED_OVER
    if not entry.is_file():
        return "not a regular file"
    return _IMAGE if path == printable(path) else "its name is not UTF-8"


def _walk_remote(root: str, folder: str = "", hidden: bool = False) -> Iterator[Entry]:
    """As `_walk`, behind a scheme: no links, and what has an image's name counts as a file."""
    for name in files.names(os.path.join(root, folder)):
        path = f"{folder}/{name}" if folder else name
        below = hidden or name.startswith(".")
        # Asking whether an image is a folder would cost a request.
        is_image = datasets.is_image_name(path)
        if name.endswith("/") or (not is_image and files.is_folder(os.path.join(root, path))):
            yield from _walk_remote(root, path.rstrip("/"), below)
        elif is_image and not below:
            yield path, _IMAGE
        else:
            yield path, _PASSED_OVER


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

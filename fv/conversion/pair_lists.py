"""Reads lists of pairs over a folder of images: CSV, and the formats of LFW, CFP and AgeDB.

Every reader returns a table with columns `a` and `b` (paths), `label`, and `line` (the number of
the line in the list, from 1). `fold` is there if the list has folds, from 0. `list` is there if the
list has several parts; it says which, as "FILE, line". `source` is the path of the list.
`fv.conversion.pair_checks` compares the table with the images, and `verification_sets` reads .bin.
"""

import importlib
import io
import itertools
import os
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from fv import files, record, tables
from fv.conversion import datasets
from fv.errors import UserError

COLUMNS = ("image_a", "image_b", "label")  # of a CSV
_COLUMNS_WITH_FOLDS = ["a", "b", "label", "line", "fold"]
FOLDS = 10  # of lists and sets without marks of folds, as the field evaluates them

# str.splitlines would also split at characters that names may hold.
_LINE_END = re.compile(r"\r\n?|\n")
_NUMBER = re.compile(r"\s*[0-9]{1,9}\s*")
_NUMBERED = re.compile(r"(.*)_([0-9]{1,9})", re.DOTALL)  # the stem of an image of LFW
_SUFFIX = "|".join(re.escape(suffix) for suffix in datasets.SUFFIXES)
_PATH_PAIR = re.compile(rf"(.+?(?:{_SUFFIX}))\s+(.+?(?:{_SUFFIX}))\s+(1|0|-1)", re.IGNORECASE)
_CFP_PAIR = re.compile(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*")
_CFP_FILES = {"same.txt": record.GENUINE, "diff.txt": record.IMPOSTOR}


_Image = tuple[str, int]
"""The name and number of an image in LFW's format: NAME/NAME_0001.jpg."""


def read(
    source: str, images: pd.DataFrame, folder: str, level: int = 1, *, is_csv: bool
) -> pd.DataFrame:
    """Reads a list of pairs; strips blanks around paths that name an image only without them.

    Args:
      source: a CSV; a file in LFW's format, or with lines `path path label`; CFP's folder
        Protocol/Split/FP or FF; or a .mat file of AgeDB.
      images: the images of `folder`, with column `path`.
      folder: the images folder.
      level: which folder of a path names the person.
      is_csv: whether it is a CSV.

    Raises:
      UserError: the list cannot be used.
    """
    known = set(images["path"])
    if is_csv:
        table = read_csv_pairs(source, folder)
    elif files.is_folder(source):
        table = read_cfp_pairs(source, known)
    elif source.lower().endswith(".mat"):
        table = read_agedb_pairs(source)
    elif (table := read_path_pairs(source)) is None:
        table = read_lfw_pairs(source, images, level)

    def match(path: str) -> str:
        bare = tables.without_blanks(path)
        return bare if path not in known and bare in known else path

    return table.assign(a=table["a"].map(match), b=table["b"].map(match))


def read_csv_pairs(source: str, root: str | None = None) -> pd.DataFrame:
    """Reads the pairs of a CSV with the columns of `COLUMNS` and labels of `tables.LABELS`.

    Paths are relative to the images folder, or absolute below `root`, if that is given.

    Raises:
      UserError: a column is missing, there is no pair, or a line cannot be used.
    """
    rows = tables.read(source, COLUMNS)
    labels = rows.labels("label").astype(np.int64)
    a, b = (
        [tables.normal_path(text, rows.place(row), root) for row, text in enumerate(rows[name])]
        for name in COLUMNS[:2]
    )
    pairs = pd.DataFrame({"a": a, "b": b, "label": labels, "line": rows.lines})
    return pairs.astype({"a": object, "b": object})


def read_lfw_pairs(source: str, images: pd.DataFrame, level: int = 1) -> pd.DataFrame:
    """Reads the pairs of a file in the format of Labeled Faces in the Wild.

    The first line is `N` (View 1) or `folds N` (View 2). For each fold, N genuine lines `name i j`
    and N impostor lines `name1 i name2 j` follow. Tabs separate the fields, or blanks where names
    hold none. Image 1 of a name is NAME/NAME_0001.jpg, or has another number of zeros. Without a
    first line, the folds are found from runs of one length, if there are such runs.

    Source: http://vis-www.cs.umass.edu/lfw/README.txt

    The path of an image that the folder lacks ends in .jpg.

    Raises:
      UserError: a line is out of format, or fits several images.
    """
    lines = _read_lines(source)
    header = _parse_header(lines, source)
    rows = [_parse_line(text, number, source) for number, text in lines[header is not None :]]
    labels = np.array([label for _, _, label, _ in rows])
    folds, count = header or _find_folds(labels)
    if len(rows) != 2 * folds * count and header:
        raise UserError(
            f"{source} has {len(rows)} pairs where its first line promises "
            f"{2 * folds * count}: it was cut short or changed"
        )
    numbers = np.arange(len(rows))
    wrong = (labels == record.GENUINE) != (numbers // count % 2 == 0)
    if wrong.any() and header:
        raise UserError(
            f"{source}, line {rows[int(np.argmax(wrong))][3]}: genuine and impostor pairs are not "
            f"in runs of {count} as line 1 says"
        )
    paths = _find_numbered({end for row in rows for end in row[:2]}, images["path"], level)
    found = [
        (*(_one_path(end, paths, source, number) for end in (a, b)), label, number)
        for a, b, label, number in rows
    ]
    table = pd.DataFrame(found, columns=["a", "b", "label", "line"])
    return table.assign(fold=numbers // (2 * count) if folds > 1 else 0)


def read_cfp_pairs(source: str, known: set[str]) -> pd.DataFrame:
    """Reads the pairs of a protocol of Celebrities in Frontal-Profile (Sengupta et al., WACV 2016).

    Its folders 01 to 10 are the folds. Each holds same.txt and diff.txt with lines `i,j`, which are
    numbers in Protocol/Pair_list_F.txt (frontal) and Pair_list_P.txt (profile).

    The lists name images relative to themselves, so the longest end of a path in `known` counts.

    Raises:
      UserError: the folder is not such a protocol, or a line cannot be used.
    """
    protocol, kind = os.path.split(source.rstrip("/"))
    folds = [
        name.rstrip("/")
        for name in files.names(source)
        if files.exists(os.path.join(source, name, "same.txt"))
    ]
    if kind not in ("FF", "FP") or not folds:
        raise UserError(
            f"{source} is a folder: give a list in LFW's format, or Protocol/Split/FP or FF of CFP"
        )
    lists = [
        _read_cfp_images(os.path.join(os.path.dirname(protocol), f"Pair_list_{view}.txt"), known)
        for view in kind
    ]
    rows = []
    for fold, (name, label) in itertools.product(enumerate(folds), _CFP_FILES.items()):
        path = os.path.join(source, fold[1], name)
        for number, text in _read_lines(path):
            numbers = _CFP_PAIR.fullmatch(text)
            if numbers is None or any(
                int(each) not in images
                for each, images in zip(numbers.groups(), lists, strict=True)
            ):
                raise UserError(
                    f"{path}, line {number}: '{text[:40]}' is not two numbers 'i,j' of images in "
                    f"Pair_list_{kind[0]}.txt and Pair_list_{kind[1]}.txt"
                )
            ends = (images[int(each)] for each, images in zip(numbers.groups(), lists, strict=True))
            rows.append((*ends, label, number, fold[0], f"{path}, line"))
    table = pd.DataFrame(rows, columns=[*_COLUMNS_WITH_FOLDS, "list"])
    return table.astype({"list": "category"})


def read_agedb_pairs(source: str) -> pd.DataFrame:
    """Reads the pairs of a protocol of AgeDB (Moschoglou et al., CVPRW 2017), such as
    04_FINAL_protocol_30_years.mat.

    `splits` holds a fold in each cell: two rows of (image, age). The images are named
    PERSON_….jpg and lie in one folder.

    Raises:
      UserError: SciPy is missing, or the file is not such a protocol.
    """
    try:
        scipy_io = importlib.import_module("scipy.io")
    except ImportError as error:
        raise UserError(f"{source} is a MATLAB file: pip install 'fv[mat]' to read it") from error
    data, rows = files.read_bytes(source), []
    try:
        splits = scipy_io.loadmat(io.BytesIO(data))["splits"]
        for fold, (cell,) in enumerate(splits):
            ends = [[str(each[0, 0][0][0]) for each in row] for row in cell[0, 0][0]]
            for number, (a, b) in enumerate(zip(*ends, strict=True), start=1):
                label = int(a.split("_")[0] == b.split("_")[0])
                place = f"{source}, fold {fold + 1}, pair"
                rows.append((f"{a}.jpg", f"{b}.jpg", label, number, fold, place))
    except Exception as error:  # of many kinds, where SciPy meets damage
        raise UserError(
            f"{source} is not a protocol of AgeDB ({type(error).__name__}): give its file "
            "04_FINAL_protocol_30_years.mat, or a list in LFW's format"
        ) from error
    return pd.DataFrame(rows, columns=[*_COLUMNS_WITH_FOLDS, "list"]).astype({"list": "category"})


def read_path_pairs(source: str) -> pd.DataFrame | None:
    """Reads lines `path path label`, as AgeDB-30, CFP-FP and others have them for aligned faces.

    Blanks or tabs separate the fields. The label is 1, or 0 or -1. The folds are ten equal runs.

    Returns:
      The pairs; None if the first line is not such a line.

    Raises:
      UserError: another line is not, or a path leaves the images folder.
    """
    rows: list[tuple[str, str, int, int]] = []
    for number, text in _read_lines(source):
        fields = _PATH_PAIR.fullmatch(text.strip())
        if fields is None:
            if not rows:
                return None
            raise UserError(f"{source}, line {number}: '{text[:60]}' is not 'path path label'")
        place = f"{source}, line {number}"
        a, b = (tables.normal_path(path, place) for path in fields.groups()[:2])
        rows.append((a, b, int(fields[3] == "1"), number))
    folds = consecutive_folds(len(rows), min(FOLDS, len(rows)))
    return pd.DataFrame(rows, columns=_COLUMNS_WITH_FOLDS[:4]).assign(fold=folds)


def consecutive_folds(pairs: int, folds: int = FOLDS) -> np.ndarray:
    """The fold of each pair, int64 [pairs]: equal runs, of which the first are larger by one."""
    sizes = [len(part) for part in np.array_split(np.arange(pairs), folds)]
    return np.repeat(np.arange(folds), sizes)


def _read_lines(source: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        text = files.read_bytes(source).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not a text file in UTF-8: give a list of pairs") from error
    lines = enumerate(_LINE_END.split(text), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def _parse_header(lines: list[tuple[int, str]], source: str) -> tuple[int, int] | None:
    """The number of folds, and of the pairs of each label in a fold; None if line 1 is a pair."""
    first = lines[0][1] if lines else ""
    numbers = [int(word) if _NUMBER.fullmatch(word) else 0 for word in first.split()]
    if 1 <= len(numbers) <= 2 and all(numbers):
        return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
    if _split_line(first) is None:
        raise UserError(
            f"{source}, line 1: '{first[:40]}' is not the number of pairs (View 1) or of folds "
            "and pairs (View 2)"
        )
    return None


def _find_folds(labels: np.ndarray) -> tuple[int, int]:
    """As `_parse_header`, from the runs of equal labels; one fold if they differ in length."""
    ends = np.append(np.flatnonzero(np.diff(labels)) + 1, len(labels))
    lengths = np.diff(ends, prepend=0)
    if labels[0] == record.GENUINE and len(lengths) % 2 == 0 and len(set(lengths)) == 1:
        return len(lengths) // 2, int(lengths[0])
    return 1, len(labels)


def _split_line(line: str) -> list[str] | None:
    """The fields `name i j` or `name1 i name2 j` of a line; None if it has others."""
    fields = line.split("\t") if "\t" in line.strip() else line.split()
    fields = [*filter(str.strip, fields)]
    numbers = fields[1:] if len(fields) == 3 else fields[1::2]
    is_pair = len(fields) in (3, 4) and all(map(_NUMBER.fullmatch, numbers))
    return fields if is_pair else None


def _parse_line(line: str, number: int, source: str) -> tuple[_Image, _Image, int, int]:
    """Returns the two images, the label, and the number of the line."""
    fields = _split_line(line)
    if fields is None:
        raise UserError(
            f"{source}, line {number}: '{line[:60]}' is neither 'name i j' nor "
            "'name1 i name2 j', tab-separated"
        )
    label = record.GENUINE if len(fields) == 3 else record.IMPOSTOR
    name, first, *others = fields
    other = others[0] if len(fields) == 4 else name
    return (name, int(first)), (other, int(others[-1])), label, number


def _find_numbered(
    wanted: set[_Image], paths: Iterable[str], level: int
) -> dict[_Image, list[str]]:
    """The paths of wanted images, whatever the suffix and the zeros before the number."""
    found: dict[_Image, list[str]] = {}
    for path in paths:
        stem = os.path.splitext(path.split("/", level - 1)[-1])[0]
        match = _NUMBERED.fullmatch(stem)
        name, _, twice = match[1].rpartition("/") if match else ("", "", "")
        if match and name == twice and (image := (name, int(match[2]))) in wanted:
            found.setdefault(image, []).append(path)
    return found


def _one_path(image: _Image, found: dict[_Image, list[str]], source: str, number: int) -> str:
    name, count = image
    stem = f"{name}/{name}_{count:04d}"
    paths = found.get(image, [f"{stem}{datasets.SUFFIXES[0]}"])
    if len(paths) > 1:
        raise UserError(
            f"{source}, line {number}: {stem} may be {' or '.join(paths)}: take all but "
            "one of them out of the images folder, or list the pairs with --pairs_csv, which names "
            "files"
        )
    return paths[0]


def _read_cfp_images(path: str, known: set[str]) -> dict[int, str]:
    """The paths of CFP's images by their numbers."""
    found = {}
    for number, text in _read_lines(path):
        index, _, image = text.strip().partition(" ")
        parts = [part for part in image.strip().split("/") if part not in ("", ".", "..")]
        if not _NUMBER.fullmatch(index) or not parts:
            raise UserError(f"{path}, line {number}: '{text[:60]}' is not 'number path'")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        found[int(index)] = next((end for end in ends if end in known), "/".join(parts[-3:]))
    return found

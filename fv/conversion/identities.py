"""Finds identities in paths, and checks whether they can be people.

The checks look at folders, numbers of images and names only, so they hold for every data source.
"""

import collections
import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pandas as pd

from fv.errors import UserError

_EXAMPLES = 3  # in a message
_LEAST_SUBFOLDERS = 8  # fewer may be the sessions or cameras of a person
_SUBFOLDERS_PER_FOLDER = 2  # times the number of folders: with more in each, folders are groups
_MANY_IMAGES = 500  # of one identity, on average; VGGFace2 has 362
_SHARE_DEEP_ENOUGH = 0.5  # of the images, for a level to be suggested
_SEPARATORS = re.compile(r"[\s_\-‐-―]+")
_NUMBER = re.compile(r"[\s\d]+$")
_LEADING_ZEROS = re.compile(r"(?<![^\W_])0+(?=[0-9]+(?![^\W_]))")  # of a number by itself

# A folder whose name consists of these words holds a part of a data set.
_PARTS = frozenset(
    "train trainset training val valset valid validation dev eval evaluation test testset testing "
    "holdout set subset fold split part batch all images image imgs img jpg jpgs jpeg png data "
    "dataset datasets faces photos pictures pics crops cropped aligned raw original originals "
    "gallery probe query people persons identities ids subjects actors actresses men women male "
    "female males females color colour gray grey rgb".split()
)
_LEFTOVERS = frozenset(
    "unknown unlabeled unlabelled misc others unsorted distractors strangers".split()
)

Folders = Mapping[tuple[str, ...], int]  # numbers of images by the folders of their paths


@dataclasses.dataclass(frozen=True)
class Naming:
    """Finds the identity in an image's path.

    Attributes:
      level: which folder of the path names the identity, from 1; those above it do not matter.
      joined: the identity of folders whose name was joined to another, by that name.
      bases: the folders, each ending in '/', below which levels count; they begin every path.
    """

    level: int = 1
    joined: Mapping[str, str] = dataclasses.field(default_factory=dict)
    bases: tuple[str, ...] = ("",)

    def below(self, path: str) -> str:
        """The path without the one of `bases` that it begins with."""
        if self.bases == ("",):
            return path
        return path.removeprefix(next(base for base in self.bases if path.startswith(base)))

    def identity_of(self, path: str) -> str:
        """The identity of the image at a relative path; '' where the path has too few folders."""
        folders = self.below(path).split("/", self.level)
        if len(folders) <= self.level:
            return ""
        return self.joined.get(folders[self.level - 1], folders[self.level - 1])


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something about the identities that a user has to decide.

    Attributes:
      seen: what is there.
      means: what follows from it.
      decides: the flags that decide.
      certain: whether the identities are nearly certainly wrong.
    """

    seen: str
    means: str
    decides: str
    certain: bool = False

    def __str__(self) -> str:
        return f"{self.seen}: {self.means}; {self.decides}"


def check(
    images: pd.DataFrame,
    level: int | None,
    merge_names: bool | None,
    source: str,
    naming: Naming | None,
) -> tuple[Finding, ...]:
    """Checks whether the identities of images are plausible.

    Args:
      images: table with columns `path` and `identity`.
      level: --identity_level; None, where it was not given, checks the folders too.
      merge_names: --merge_names; None, where it was not given, checks the names too.
      source: where the images are, for messages.
      naming: as `datasets.Catalog.naming`.

    Raises:
      UserError: the identities are nearly certainly wrong.
    """
    identities = [str(name) for name in images["identity"].unique()]
    findings: list[Finding] = []
    if naming and ((level or 1) > 1 or merge_names or len(naming.bases) > 1):
        findings += _check_joined(images, level or 1, naming)
    if naming and level is None:
        for base in naming.bases:
            findings += _check_layout(images, len(identities), base)
    if merge_names is None:
        findings += _check_names(identities)
    for finding in findings:
        if finding.certain:
            raise UserError(f"{source}: {finding}")
    return tuple(findings)


def note_names(names: Iterable[str]) -> str:
    """The note in a report on names that a table writes in several ways; '' without any."""
    groups = _group(set(names), normalise)
    if not groups:
        return ""
    written = f"{_many(len(groups), 'name')} written in several ways, such as {_spell(groups[0])}"
    return f"{written}: taken for different people; write each name in one way if they are not."


def suggest_level(images: pd.DataFrame, level: int, base: str = "") -> int | None:
    """The first level of folders below `level` that may be people, None where there is none."""
    folders = _count_folders(images, base)
    for deeper in range(level + 1, max(map(len, folders), default=0) + 1):
        below: collections.Counter[tuple[str, ...]] = collections.Counter()
        for folder, count in folders.items():
            if len(folder) >= deeper:
                below[folder[deeper - 1 :]] += count
        enough = below.total() >= _SHARE_DEEP_ENOUGH * sum(folders.values())
        if enough and len(_subfolders(below)) > 1 and not _why_not_people(below):
            return deeper
    return None


def normalise(name: str) -> str:
    """A name without what differs between two ways to write it.

    Unicode compatibility forms (NFKC), case, invisible characters, and runs of blanks, underscores
    and hyphens, which count as one blank. Accents stay: they may tell two people apart.
    """
    text = name.casefold()
    if not name.isascii():  # ASCII is in this form already
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return _SEPARATORS.sub(" ", text).strip() or name


def join_names(names: Iterable[str]) -> dict[str, str]:
    """By each name that equals another after `normalise`, the first of these in sorted order."""
    return {name: group[0] for group in _group(names, normalise) for name in group}


def _check_layout(images: pd.DataFrame, identities: int, base: str) -> Iterator[Finding]:
    """Checks whether the first folders below `base` are people."""
    folders = _count_folders(images, base)
    objection = _why_not_people(folders)
    if objection:
        level = suggest_level(images, 1, base)
        remedy = f"give --identity_level={level} if the folders of level {level} are the people"
        if level is None:
            remedy = "give each person a folder"
        yield Finding(
            objection,
            "taken for people, they would mix the images of several",
            f"{remedy}, or --identity_level=1 to take them",
            certain=True,
        )
        return
    nested = [folder for folder in folders if len(folder) > 1]
    if nested:
        depths: collections.Counter[int] = collections.Counter()
        for folder, count in folders.items():
            depths[len(folder)] += count
        deep = ", ".join(
            f"{_many(count, 'image')} {_many(depth, 'folder')} deep"
            for depth, count in sorted(depths.items())
        )
        first = min(nested)
        yield Finding(
            f"{deep} (for example in {'/'.join(first)})",
            f"the first folder, '{first[0]}', is taken for the person "
            "and those inside for the same person",
            "give --identity_level=2 if the second folder names the person, "
            "or --identity_level=1 to confirm the first",
        )
    leftovers = [top for top in _subfolders(folders) if normalise(top) in _LEFTOVERS]
    if leftovers:
        yield Finding(
            f"{_many(len(leftovers), 'folder')} named {_list(leftovers)}",
            "its images are taken for those of one person",
            "move the folder away if it holds several people, "
            "or give --identity_level=1 to take it",
        )
    mean = len(images) / max(1, identities)
    if mean >= _MANY_IMAGES:
        yield Finding(
            f"{_many(identities, 'identity')} with {mean:,.0f} images on average",
            "folders of so many images often hold several people each",
            "give each person a folder, "
            "or give --identity_level=1 to confirm that each folder is one person",
        )


def _check_names(names: Iterable[str]) -> Iterator[Finding]:
    """Checks for names that differ little and may be of one person."""
    groups = _group(names, normalise)
    if groups:
        yield Finding(
            f"{_many(len(groups), 'name')} written in several ways, such as {_spell(groups[0])}",
            "taken for different people, "
            "one person may land in both the training and the test split",
            "give --merge_names to join them, or --nomerge_names if they are different people",
            certain=True,
        )
    for key, noun, what in (
        (_without_accents, "name", "accents"),
        (lambda name: _LEADING_ZEROS.sub("", normalise(name)), "number", "leading zeros"),
    ):
        near = [group for group in _group(names, key) if len({*map(normalise, group)}) > 1]
        if near:
            written = f"written with and without {what}, such as {_spell(near[0])}"
            yield Finding(
                f"{_many(len(near), noun)} {written}",
                "they are taken for different people",
                "rename the folders if they are one person, or give --nomerge_names to confirm",
            )


def _check_joined(images: pd.DataFrame, level: int, naming: Naming) -> Iterator[Finding]:
    """Checks for identities whose folders have several names or stand below several parents."""
    sources: dict[str, set[str]] = collections.defaultdict(set)
    folders = [path.rpartition("/")[0] for path in images["path"]]
    pairs = pd.DataFrame({"folder": folders, "identity": images["identity"].to_numpy()})
    for folder, identity in pairs.drop_duplicates().itertuples(index=False):
        base = f"{folder}/".removesuffix(naming.below(f"{folder}/"))
        sources[identity].add(base + "/".join(naming.below(f"{folder}/").split("/")[:level]))
    several = {identity: sorted(found) for identity, found in sources.items() if len(found) > 1}
    if several:
        name, found = min(several.items())
        remedy = "rename the folders, or give another --identity_level,"
        if any(len({each.rpartition("/")[2] for each in found}) > 1 for found in several.values()):
            remedy = "give --nomerge_names"
        joined = f"joined from several folders, such as '{name}' from {_list(found)}"
        yield Finding(
            f"{_many(len(several), 'identity')} {joined}",
            "their images are taken for one person's",
            f"{remedy} if they are different people",
            # Two data sets that number their people give one number to two of them.
            certain=len(naming.bases) > 1 and any(each.isdecimal() for each in several),
        )


def _why_not_people(folders: Folders) -> str:
    """What shows that the first folders are not people; '' where they may be."""
    inside = _subfolders(folders)
    tops, nested = sorted(inside), any(inside.values())
    parts = [top for top in tops if _is_part(top, numbered=nested)]
    if not parts and _are_parts_of_one(tops):
        parts = tops
    if len(parts) == len(tops) > 1 or any(len(inside[part]) > 1 for part in parts):
        verb = "is" if len(parts) == 1 else "are"
        return f"{_many(len(parts), 'folder')} at the first level {verb} named {_list(parts)}"
    least = max(_LEAST_SUBFOLDERS, _SUBFOLDERS_PER_FOLDER * len(tops)) if len(tops) > 1 else 2
    groups = sorted(top for top, subfolders in inside.items() if len(subfolders) >= least)
    grouped = sum(count for folder, count in folders.items() if folder[0] in groups)
    if groups and 2 * grouped >= sum(folders.values()):
        subfolders = sum(len(inside[group]) for group in groups)
        verb = "holds" if len(groups) == 1 else "hold"
        named = f"{_many(len(groups), 'folder')} at the first level ({_list(groups)})"
        return f"{named} {verb} {subfolders:,} folders of images"
    return ""


def _is_part(name: str, numbered: bool) -> bool:
    """Whether a name consists of `_PARTS`, and a number where that is allowed."""
    text = normalise(name)
    words = (_NUMBER.sub("", text) if numbered else text).split()
    return bool(words) and all(word in _PARTS for word in words)


def _are_parts_of_one(names: Sequence[str]) -> bool:
    """Whether names differ only in `_PARTS`, as 'lfw_train' and 'lfw_test' do."""
    words = [normalise(name).split() for name in names]
    others = {tuple(word for word in each if word not in _PARTS) for each in words}
    return len(names) > 1 and len(others) == 1 and all(_PARTS & set(each) for each in words)


def _count_folders(images: pd.DataFrame, base: str) -> Folders:
    below = (path[len(base) :] for path in images["path"] if path.startswith(base))
    counts = collections.Counter(path.rpartition("/")[0] for path in below)
    return {tuple(folder.split("/")): count for folder, count in counts.items() if folder}


def _subfolders(folders: Iterable[tuple[str, ...]]) -> dict[str, set[str]]:
    """By first folder, the folders in it that hold images."""
    inside: dict[str, set[str]] = collections.defaultdict(set)
    for folder in folders:
        inside[folder[0]].update(folder[1:2])
    return dict(inside)


def _group(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """The names that share a key with another, sorted."""
    groups = collections.defaultdict(list)
    for name in sorted(names):
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _without_accents(name: str) -> str:
    letters = unicodedata.normalize("NFD", normalise(name))
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")


def _spell(group: Sequence[str]) -> str:
    """The names of a group so that their difference shows."""
    stripped = {name.strip() for name in group}
    composed = {unicodedata.normalize("NFC", name) for name in group}
    is_visible = len(stripped) == len(composed) == len(group)
    return " and ".join(f"'{name}'" if is_visible else ascii(name) for name in group[:_EXAMPLES])


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_EXAMPLES])
    return shown + (", …" if len(names) > _EXAMPLES else "")


def _many(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"

"""The variants of a sweep: a text file, a line each.

    # name: flags of fv.train
    baseline:
    cutout:   --cutout=0.3
    triplets: --head=triplet_hard                        # the baseline comes first, whatever its name

Names are folders of runs, so renaming one begins its runs anew. Quotes and comments are a shell's.
"""

import dataclasses
import re
import shlex

from fv import files
from fv.errors import UserError

BASELINE = "baseline"  # what the only variant is called where there is no file
_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A name and what distinguishes its runs.

    Attributes:
      name: of its folder and its row.
      flags: of fv.train, behind those that all runs share.
      origin: where a message finds it, such as 'file, line 3'.
    """

    name: str
    flags: tuple[str, ...]
    origin: str


def read(path: str | None) -> list[Variant]:
    """Reads the file; without one there is the baseline alone.

    Raises:
      UserError: the file is missing or empty, or a line is no variant; the message names the line's number.
    """
    if path is None:
        return [Variant(BASELINE, (), "the command line")]
    found: dict[str, Variant] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        variant = _parse(line, f"{path}, line {number}")
        if variant.name in found:
            raise UserError(
                f"{variant.origin}: '{variant.name}' is there already ({found[variant.name].origin})"
            )
        found[variant.name] = variant
    if not found:
        raise UserError(
            f"{path} holds no variant: write one on each line, as in 'cutout: --cutout=0.3'"
        )
    return list(found.values())


def select(names: list[str], only: str) -> list[str]:
    """The names that `--only` chooses; all of them where it is empty.

    Raises:
      UserError: one is no variant.
    """
    chosen = [name.strip() for name in only.split(",") if name.strip()]
    for name in chosen:
        if name not in names:
            raise UserError(f"--only={only}: '{name}' is none of the variants {', '.join(names)}")
    return chosen or names


def _lines(path: str) -> list[str]:
    try:
        return files.read_bytes(path).decode().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file: {error}") from error


def _parse(line: str, origin: str) -> Variant:
    name, colon, text = line.partition(":")
    if not colon or not _NAME.fullmatch(name.strip()):
        raise UserError(
            f"{origin}: '{line.strip()}' does not begin with a name and a colon, as in 'cutout: --cutout=0.3'"
        )
    try:
        flags = tuple(shlex.split(text, comments=True))
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from error
    for flag in flags:
        if not flag.startswith("--"):
            raise UserError(f"{origin}: '{flag}' is no flag: write --name=value")
    return Variant(name.strip(), flags, origin)

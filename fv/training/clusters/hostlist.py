"""Lists of hosts as Slurm writes them: `node[01-03,07],rack[1-2]-gpu[0-1]` → every name, in order."""

import itertools
import re
from collections.abc import Iterator

from fv.errors import UserError

_MOST_NAMES = 100_000  # more is a slip of the pen
_PART = re.compile(r"\[([^][]*)\]|([^][]+)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand(text: str, origin: str) -> list[str]:
    """Expands a list of hosts; each may have several ranges in brackets, and numbers keep their leading zeros.

    Args:
      text: names, separated by commas.
      origin: where the text comes from, for messages.

    Raises:
      UserError: it is no such list.
    """
    names = []
    for item in _split(text):
        parts = [_expand_part(part) for part in _PART.finditer(item)]
        if not item or "".join(part[0] for part in _PART.finditer(item)) != item or None in parts:
            raise UserError(
                f"{origin} has '{text}', where '{item}' is no host such as node1 or node[01-04,7]"
            )
        names.extend(
            itertools.islice(map("".join, itertools.product(*parts)), _MOST_NAMES + 1 - len(names))
        )
    if len(names) > _MOST_NAMES:
        raise UserError(f"{origin} has '{text}', which is more than {_MOST_NAMES:,} hosts")
    return names


def _split(text: str) -> Iterator[str]:
    """The items between those commas that are outside of brackets."""
    return (item.strip() for item in re.split(r",(?![^[]*\])", text))


def _expand_part(part: re.Match) -> list[str] | None:
    """The names of one part, or None where its brackets hold no ranges."""
    if part[1] is None:
        return [part[2]]
    if ":" in part[1]:
        return [part[0]]  # an IPv6 address
    names = []
    for item in part[1].split(","):
        found = _RANGE.fullmatch(item)
        first, last = (
            (int(number) for number in (found[1], found[2] or found[1])) if found else (1, 0)
        )
        if not first <= last < first + _MOST_NAMES:
            return None
        names.extend(str(number).zfill(len(found[1])) for number in range(first, last + 1))
    return names

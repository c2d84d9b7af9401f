"""Where the weights come from: what the workdir's run.json says of their training."""

from fv import workdir

_KEPT = ("at", "revision", "host", "python", "manifest_sha256")  # of the last start
_NAMED_FLAGS = ("seed", "steps", "teacher", "init_weights")  # shown beside these


def read(folder: str) -> dict | None:
    """Reads the training of a workdir; None where it has no run.json, as those of an older fv.

    Args:
      folder: the workdir.

    Returns:
      Of the last start `at` (UTC), `revision` (of fv's repository), `host`, `python` and `manifest_sha256` (of its shards);
      `starts`, how many there were; `seed`, `steps`, `teacher` and `init_weights`, None where they were not given; and all
      `flags`, name → text.
    """
    starts = workdir.starts(folder)
    if not starts:
        return None
    flags = dict(line.removeprefix("--").split("=", 1) for line in starts[-1].get("flags", []))
    kept = {name: starts[-1].get(name) for name in _KEPT}
    return kept | {"starts": len(starts)} | {name: flags.get(name) for name in _NAMED_FLAGS} | {"flags": flags}

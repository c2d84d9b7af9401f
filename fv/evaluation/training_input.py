"""What a training run said of its input, from its workdir's run.json."""

import os

from fv import files, workdir


def verdict(folder: str) -> str:
    """Whether the run was input-bound and what to change, by its last start that ended and did a step; "" where none did."""
    path = os.path.join(folder, workdir.RUN)
    starts = files.load_json(path)["starts"] if files.exists(path) else []
    said = [start["ended"].get("input_verdict") for start in starts if start["ended"]]
    return next(filter(None, reversed(said)), "")

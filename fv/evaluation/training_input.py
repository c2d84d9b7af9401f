"""What a training run said of its input, from its workdir's run.json."""

from fv import workdir


def verdict(folder: str) -> str:
    """Whether the run was input-bound and what to change, by its last start that ended and did a step; "" where none did."""
    said = [
        start["ended"].get("input_verdict") for start in workdir.starts(folder) if start["ended"]
    ]
    return next(filter(None, reversed(said)), "")

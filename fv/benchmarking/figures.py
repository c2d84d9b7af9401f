"""Where a benchmark's figures go."""

import json

from fv import files


def publish(figures: dict, path: str | None) -> None:
    """Prints figures as JSON, and writes them to `path` where there is one."""
    print(json.dumps(figures, indent=2))
    if path:
        files.save_json(figures, path)

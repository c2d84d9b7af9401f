"""Where a benchmark's figures go."""

from fv import files


def publish(figures: dict, path: str | None) -> None:
    """Prints figures as JSON, and writes them to `path` where there is one."""
    print(files.to_json(figures, indent=2))
    if path:
        files.save_json(figures, path)

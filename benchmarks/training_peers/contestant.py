"""One peer in a process of its own: python -m benchmarks.training_peers.contestant NAME WORK

Prints the time of each stamp, seconds since 1970, one a line; or the name of what is missing, as JSON, and ends.
"""

import importlib
import json
import sys
import time

from benchmarks.training_peers import work as works

OURS = ("benchmarks", "fv")


def main(name: str, path: str) -> None:
    """Trains until it is killed."""
    try:
        peer = importlib.import_module(f"benchmarks.training_peers.{name}")
    except ModuleNotFoundError as error:
        if error.name.startswith(OURS):
            raise
        print(json.dumps({"missing": error.name.partition(".")[0]}), flush=True)
        return
    for _ in peer.train(works.load(path)):
        print(repr(time.time()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Writes constraints.txt anew: the newest versions that setup.py allows, for every supported Python.

    .ci/update_constraints.py python3.11 python3.12 python3.13

The Python that runs it needs pip 23.2 or newer and the network. Nothing is installed, and wheels are hardly fetched.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADER = """\
# The exact version of every package that `make` installs, and of those that the extras `gpu` and `beam` add.
# Written by .ci/update_constraints.py; the ranges are in setup.py.
"""


def main(interpreters: list[str]) -> None:
    """Asks pip what it would install under each interpreter, and writes one line per package and version."""
    resolved = dict(resolve(interpreter) for interpreter in interpreters)
    pythons = collections.defaultdict(
        lambda: collections.defaultdict(list)
    )  # name → version → Pythons
    for python in sorted(resolved, key=minor):
        for name, version in resolved[python].items():
            pythons[name][version].append(python)
    lines = [
        f"{name}=={version}{marker(by_version[version], sorted(resolved, key=minor))}\n"
        for name, by_version in sorted(pythons.items())
        for version in by_version
    ]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines), encoding="utf-8")


def resolve(interpreter: str) -> tuple[str, dict[str, str]]:
    """Returns the interpreter's version, as in '3.11', and the version of each package that pip picks for it."""
    options = ["--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed"]
    with tempfile.NamedTemporaryFile() as report:
        pip = [sys.executable, "-m", "pip", "--python", interpreter, "install"]
        subprocess.run(
            [*pip, *options, "--report", report.name, f"{ROOT}[gpu,beam,dev]"], check=True
        )
        answer = json.load(report)
    packages = {
        normal(item["metadata"]["name"]): item["metadata"]["version"] for item in answer["install"]
    }
    del packages["fv"]
    return answer["environment"]["python_version"], packages


def normal(name: str) -> str:
    """The one spelling of a package's name, by PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def marker(pythons: list[str], supported: list[str]) -> str:
    """The environment marker of some of the supported Pythons; none if it is all of them."""
    if pythons == supported:
        return ""
    if pythons == supported[-len(pythons) :]:
        return f'; python_version >= "{pythons[0]}"'
    if pythons == supported[: len(pythons)]:
        return f'; python_version <= "{pythons[-1]}"'
    return "; " + " or ".join(f'python_version == "{python}"' for python in pythons)


def minor(python: str) -> int:
    """Sorts 3.9 before 3.11."""
    return int(python.partition(".")[2])


if __name__ == "__main__":
    main(sys.argv[1:])

#!/usr/bin/env python3
"""Writes constraints.txt: the newest versions that pyproject.toml allows on each supported Python.

    .ci/update_constraints.py python3.11 python3.12 python3.13

Needs the network and pip 23.2 or newer. Installs nothing.
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
# Exact versions of all dependencies, extras included. pyproject.toml holds the ranges.
# Written by .ci/update_constraints.py.
"""


def main(interpreters: list[str]) -> None:
    """Writes one line for each package and version that pip would install."""
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
    """Returns the interpreter's version, as in '3.11', and the version of each package."""
    options = ["--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed"]
    with tempfile.NamedTemporaryFile() as report:
        pip = [sys.executable, "-m", "pip", "--python", interpreter, "install"]
        subprocess.run(
            [*pip, *options, "--report", report.name, f"{ROOT}[gpu,docs,dev]"], check=True
        )
        answer = json.load(report)
    packages = {
        normal(item["metadata"]["name"]): item["metadata"]["version"] for item in answer["install"]
    }
    del packages["fv"]
    return answer["environment"]["python_version"], packages


def normal(name: str) -> str:
    """Returns the normalized package name of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def marker(pythons: list[str], supported: list[str]) -> str:
    """Returns the environment marker that selects `pythons`, or nothing if it is all of them."""
    if pythons == supported:
        return ""
    if pythons == supported[-len(pythons) :]:
        return f'; python_version >= "{pythons[0]}"'
    if pythons == supported[: len(pythons)]:
        return f'; python_version <= "{pythons[-1]}"'
    return "; " + " or ".join(f'python_version == "{python}"' for python in pythons)


def minor(python: str) -> int:
    """Returns the sort key of a version: 9 for 3.9, 11 for 3.11."""
    return int(python.partition(".")[2])


if __name__ == "__main__":
    main(sys.argv[1:])

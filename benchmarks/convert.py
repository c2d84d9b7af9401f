"""What the converter promises, measured: rates beside two ceilings and three peers, memory, scale, kills, broken files.

python benchmarks/convert.py --images=DIR --json=/tmp/convert.json
"""

import tempfile

from benchmarks.conversion import broken, index, kills, memory, options, peers, rates
from fv import cli, files
from fv.errors import UserError

MEASURES = dict(
    zip(
        options.PARTS,
        (module.measure for module in (rates, peers, memory, index, kills, broken)),
        strict=True,
    )
)


def main(chosen: options.BenchmarkOptions) -> None:
    """Runs the parts one after the other, each in an empty folder."""
    found = {}
    for part in chosen.parts.split(","):
        if part not in MEASURES:
            raise UserError(f"--parts={chosen.parts}: '{part}' is none of {', '.join(MEASURES)}")
        with tempfile.TemporaryDirectory(dir=chosen.scratch) as folder:
            found[part] = MEASURES[part](chosen, folder)
    print(files.to_json(found, indent=2))
    if chosen.json:
        files.save_json(found, chosen.json)


if __name__ == "__main__":
    cli.run(main, options.BenchmarkOptions, description=__doc__)

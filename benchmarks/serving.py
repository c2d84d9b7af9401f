"""What an export promises, measured: latency beside other engines, concurrent callers, hostile images.

python -m benchmarks.serving --workdir=runs/lfw --model=export/1 --images=lfw --json=/tmp/serving.json
"""

from benchmarks.serving_parts import concurrency, fuzz, latency, options
from fv import cli, files, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.errors import UserError

MEASURES = dict(
    zip(options.PARTS, (module.measure for module in (latency, concurrency, fuzz)), strict=True)
)


def main(chosen: options.BenchmarkOptions) -> None:
    """Runs the parts one after the other."""
    found = {}
    for part in chosen.parts.split(","):
        if part not in MEASURES:
            raise UserError(f"--parts={chosen.parts}: '{part}' is none of {', '.join(MEASURES)}")
        found[part] = MEASURES[part](chosen)
    print(files.to_json(found, indent=2))
    if chosen.json:
        files.save_json(found, chosen.json)


if __name__ == "__main__":
    cli.run(main, options.BenchmarkOptions, description=__doc__)

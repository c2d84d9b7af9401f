"""Whitens a trained model's embeddings by its genuine training pairs: a percent of accuracy on strangers, in a minute.

python tools/whiten.py --workdir=runs/lfw --tfrecords=tfrecords/lfw --output=runs/lfw_whitened

What images of one person differ in, light or pose, comes to count for less. The matrix goes into the weights of the last
layer, so that nothing costs more afterwards: fv.evaluate, fv.export and --teacher take the new folder like the first.
"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.whitening import options, run


def main(chosen: options.WhitenOptions) -> None:
    """Whitens, and prints what changed."""
    found = run.whiten(chosen)
    cosines = f"{found['mean_cosine_before']:.3f} before, {found['mean_cosine_after']:.3f} now"
    print(f"{chosen.output}: whitened by {found['pairs']:,} genuine training pairs, their mean cosine {cosines}")


if __name__ == "__main__":
    cli.run(main, options.WhitenOptions, description=__doc__)

"""Trains and evaluates a recipe and its variants with several seeds, and compares the variants.

python tools/sweep.py --tfrecords=DIR --output=DIR --train_flags='--flagfile=configs/lfw.flags'
python tools/sweep.py --tfrecords=DIR --output=DIR --variants=configs/augmentation.variants \\
    --train_flags='--flagfile=configs/augmentation.flags' --evaluate_flags='--nobaselines'

The same command continues a sweep that was stopped or killed. If all runs are finished, it prints
the table again.
"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.sweeping import SweepOptions, sweep

if __name__ == "__main__":
    cli.run(sweep, SweepOptions, description=__doc__)

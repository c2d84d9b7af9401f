"""Trains and evaluates a config with several seeds, and variants of it; prints means, deviations and paired differences.

python tools/sweep.py --tfrecords=DIR --output=DIR --train_flags='--flagfile=configs/lfw.flags' --seeds=3
python tools/sweep.py --tfrecords=DIR --output=DIR --train_flags='--flagfile=configs/augmentation.flags' \
    --variants=configs/augmentation.variants --evaluate_flags='--nobaselines --bootstrap=0'

Stopped or killed at any moment, the same command goes on; where all is finished, it prints the table again.
"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.sweeping.options import SweepOptions
from fv.sweeping.sweep import sweep

if __name__ == "__main__":
    cli.run(sweep, SweepOptions, description=__doc__)

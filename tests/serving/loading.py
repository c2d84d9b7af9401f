"""An export loaded once for all tests: loading and the first call of each signature are slow."""

import functools

import tensorflow as tf

load = functools.cache(tf.saved_model.load)

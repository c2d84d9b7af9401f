"""An export loaded once for all tests: to load it and to call each signature for the first time takes seconds."""

import functools

import tensorflow as tf

load = functools.cache(tf.saved_model.load)

"""Trains face verifiers with TensorFlow, from folders of faces to a served verdict."""

import os

# TensorFlow reads these once, when it is first imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # tensorflow-addons needs tf_keras
os.environ.setdefault("TF_ADDONS_PY_OPS", "1")  # its compiled ops need an older TensorFlow
# By itself TensorFlow uses oneDNN only with AVX-512 VNNI. On AVX2 (Zen 3) it trains 1.6 times as
# fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors still reach Python as exceptions

__version__ = "0.1.0"


def __getattr__(name: str):
    """Imports a class on first use: the converter and `fv.Client` do without TensorFlow."""
    if name == "Verifier":
        from fv.serving.verifier import Verifier

        return Verifier
    if name == "Client":
        from fv.serving.client import Client

        return Client
    raise AttributeError(f"module 'fv' has no attribute {name!r}")

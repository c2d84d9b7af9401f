"""fv trains face verifiers with TensorFlow: folders of faces in, a served verdict out."""

import os

# TensorFlow reads these once, when it is first imported, so they stand here, before any module of fv can import it.
os.environ.setdefault(
    "TF_USE_LEGACY_KERAS", "1"
)  # tensorflow-addons finds tf_keras behind tf.keras
os.environ.setdefault("TF_ADDONS_PY_OPS", "1")  # its compiled ops are built for older TensorFlow
# By itself it takes oneDNN with AVX-512 VNNI alone; an AMD Zen 3, which has AVX2, trains 1.6 times as fast with it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # start-up noise; errors reach Python as exceptions all the same

__version__ = "0.1.0"


def __getattr__(name: str):
    """Loads `fv.Verifier` on first use: the converter must not wait for TensorFlow."""
    if name == "Verifier":
        from fv.serving.verifier import Verifier

        return Verifier
    raise AttributeError(f"module 'fv' has no attribute {name!r}")

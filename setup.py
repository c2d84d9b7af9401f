"""The package `fv`: what it needs, in ranges. `constraints.txt` holds the exact versions that `make` installs."""

import itertools
import pathlib
import re

import setuptools

VERSION = re.search(
    r'__version__ = "(.+)"', pathlib.Path("fv/__init__.py").read_text(encoding="utf-8")
)[1]

# The reason for each is in BUILD.md.
REQUIRED = [
    "tensorflow==2.21.*",
    "tf_keras==2.21.*",
    "tensorboard==2.21.*",
    'tensorflow-addons==0.23.*; python_version < "3.12"',
    "absl-py>=2.1",
    "filelock>=4.3,<5",
    "google-crc32c>=1.6",
    "jinja2>=3.1",
    "matplotlib>=3.9",
    "numpy>=2.0,<3",
    "opencv-python-headless>=4.10,<6",
    "pandas>=2.2,<4",
    "pillow>=11,<13",
    "protobuf>=6.31",
    "psutil>=6",
    "simplejpeg>=1.8",
    "tqdm>=4.66",
]
TESTED = {
    "beam": ["apache-beam[dask]==2.77.*"],
    "serving": ["tensorflow-serving-api==2.21.*"],
    "tflite": ["ai-edge-litert>=2.3,<3"],
    "onnx": ["tf2onnx>=1.17", "onnx>=1.23", "onnxruntime>=1.23"],
}
EXTRAS = {
    **TESTED,
    "gpu": ["tensorflow[and-cuda]==2.21.*"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "ruff>=0.9",
        "scikit-learn>=1.6",
        *itertools.chain(*TESTED.values()),
    ],
}
COMMANDS = ["make_tfrecords", "train", "whiten", "evaluate", "export", "verify"]

setuptools.setup(
    name="fv",
    version=VERSION,
    description="Trains face verifiers with TensorFlow: folders of faces in, a served verdict out.",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["fv", "fv.*"]),
    package_data={"fv": ["templates/*.html"]},
    python_requires=">=3.11,<3.14",
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [f"fv-{name.replace('_', '-')} = fv.{name}:run" for name in COMMANDS]
    },
)

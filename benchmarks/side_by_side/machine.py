"""What a figure was measured on."""

import os
import platform
from importlib import metadata

from fv import workers

PACKAGES = ("tensorflow", "tf_keras", "simplejpeg", "opencv-python-headless", "pillow", "torch")


def describe() -> dict:
    """Cores, processor, Python, load before the first run, and the versions of those packages that are installed."""
    return {
        "cores": workers.cores(),
        "processor": workers.processor(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

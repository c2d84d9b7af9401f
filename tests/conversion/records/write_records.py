"""Writes the RecordIO files beside this script, and `expected.json`, what mxnet reads from them.

mxnet 1.9.1 needs Python 3.8 and numpy < 1.24:

    python3.8 -m venv /tmp/mxnet
    /tmp/mxnet/bin/pip install 'numpy<1.24' mxnet==1.9.1 pillow
    /tmp/mxnet/bin/python tests/conversion/records/write_records.py

`insightface` has record 0 with the ranges of keys, as InsightFace's training sets. `plain` has
images alone, with labels as arrays. One image of each holds the magic number, so that mxnet writes
its record in several parts.
"""

import hashlib
import io
import json
import pathlib
import struct

import mxnet
import numpy as np
from mxnet import recordio
from PIL import Image

FOLDER = pathlib.Path(__file__).parent
PEOPLE, IMAGES = 4, 3
MAGIC = struct.pack("<I", 0xCED7230A)


def draw(seed):
    """A smooth random JPEG of 24 pixels."""
    pixels = np.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((24, 24), Image.BICUBIC).save(buffer, "JPEG", quality=50)
    return buffer.getvalue()


def with_magic(jpeg):
    """The JPEG with a comment of the magic number, three times, at multiples of four bytes."""
    comment = b"\0\0" + MAGIC + MAGIC + b"1234" + MAGIC
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + jpeg[2:]


def images():
    """(label, JPEG) of every image, in the order of the people."""
    for number in range(PEOPLE * IMAGES):
        jpeg = draw(number)
        yield number // IMAGES, with_magic(jpeg) if number == 4 else jpeg


def write_insightface(folder):
    folder.mkdir(exist_ok=True)
    writer = recordio.MXIndexedRecordIO(str(folder / "train.idx"), str(folder / "train.rec"), "w")
    total = PEOPLE * IMAGES
    end, last = total + 1, total + 1 + PEOPLE
    writer.write_idx(0, recordio.pack(recordio.IRHeader(0, (end, last), 0, 0), b""))
    for key, (label, jpeg) in enumerate(images(), start=1):
        writer.write_idx(key, recordio.pack(recordio.IRHeader(0, label, key, 0), jpeg))
    for person in range(PEOPLE):
        span = (1 + person * IMAGES, 1 + (person + 1) * IMAGES)
        header = recordio.IRHeader(0, span, end + person, 0)
        writer.write_idx(end + person, recordio.pack(header, b""))
    writer.close()
    (folder / "property").write_text(f"{PEOPLE},24,24")


def write_plain(folder):
    folder.mkdir(exist_ok=True)
    writer = recordio.MXIndexedRecordIO(str(folder / "plain.idx"), str(folder / "plain.rec"), "w")
    for key, (label, jpeg) in enumerate(images()):
        header = recordio.IRHeader(0, [label, 0.5, 7], key, 0)
        writer.write_idx(key, recordio.pack(header, jpeg))
    writer.close()


def read(stem):
    """By key, the labels and the SHA-256 of the image that mxnet reads."""
    reader = recordio.MXIndexedRecordIO(f"{stem}.idx", f"{stem}.rec", "r")
    found = {}
    for key in reader.keys:
        header, image = recordio.unpack(reader.read_idx(key))
        labels = np.atleast_1d(header.label).astype(float).tolist()
        found[str(key)] = {"labels": labels, "sha256": hashlib.sha256(image).hexdigest()}
    return found


if __name__ == "__main__":
    write_insightface(FOLDER / "insightface")
    write_plain(FOLDER / "plain")
    expected = {
        "mxnet": mxnet.__version__,
        "insightface": read(FOLDER / "insightface" / "train"),
        "plain": read(FOLDER / "plain" / "plain"),
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")

"""Writes the verification sets of this folder, as InsightFace's scripts do. Runs in Python 2 and 3.

    python2.7 write_bins.py python2 0 2    (NumPy 1.16)
    python3.8 write_bins.py python3 5      (NumPy 1.23, the newest that mxnet 1.9.1 takes)

Each NAME-PROTOCOL-bytes.bin holds the files 0.jpg to 7.jpg, which are synthetic, as bytes. Those
that end in -arrays.bin hold uint8 arrays, as cv2.imencode gives them.
"""

import os
import pickle
import sys

import numpy as np

FOLDER = os.path.dirname(os.path.abspath(__file__))
LABELS = [True, False, True, False]


def main(name, protocols):
    images = []
    for number in range(2 * len(LABELS)):
        with open(os.path.join(FOLDER, str(number) + ".jpg"), "rb") as file:
            images.append(file.read())
    arrays = [np.frombuffer(image, np.uint8).reshape(-1, 1).copy() for image in images]
    for protocol in map(int, protocols):
        for form, stored in (("bytes", images), ("arrays", arrays)):
            path = os.path.join(FOLDER, "-".join([name, str(protocol), form]) + ".bin")
            with open(path, "wb") as file:
                pickle.dump((stored, LABELS), file, protocol=protocol)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

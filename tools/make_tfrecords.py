"""Converts folders of face images to shards of pairs: `fv.make_tfrecords` as a script.

python tools/make_tfrecords.py --images=DIR --output=DIR --pairs=20000
"""

from fv import make_tfrecords

if __name__ == "__main__":
    make_tfrecords.run()

"""Runs one process of a tf.data service, which reads and decodes for training on other hosts.

python tools/data_service.py --role=dispatcher --port=5050
python tools/data_service.py --role=worker --dispatcher=HOST:5050 [--port=5051 --host=NAME]
python -m fv.train --data_service=grpc://HOST:5050 …

Start one dispatcher and as many workers as you need. Every worker must find the shards under the
path that --tfrecords gives.
"""

from fv import cli, quiet_tensorflow  # noqa: F401  TensorFlow first, without its start-up noise
from fv.pipeline.service import ServiceOptions, run_service

if __name__ == "__main__":
    cli.run(run_service, ServiceOptions, description=__doc__)

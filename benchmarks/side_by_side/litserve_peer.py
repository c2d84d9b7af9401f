"""LitServe with fv's exported encoder, as a peer of benchmarks/http_service.py.

    PYTHON benchmarks/side_by_side/litserve_peer.py PORT export/1/formats/encoder.onnx

Needs litserve, onnxruntime and pillow, and nothing of fv.
"""

import base64
import io
import os
import sys

import litserve
import numpy as np
import onnxruntime
from PIL import Image

_MOST_PAIRS = 32  # in a batch
_WAIT_S = 0.002  # for further requests


class Verifier(litserve.LitAPI):
    """Compares the images `a` and `b` of a JSON object, which are in base64."""

    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        self.session = onnxruntime.InferenceSession(sys.argv[2], options)
        self.input = self.session.get_inputs()[0]

    def decode_request(self, request):
        side = self.input.shape[1]
        encoded = (io.BytesIO(base64.b64decode(request[name])) for name in "ab")
        images = [Image.open(data).convert("RGB").resize((side, side)) for data in encoded]
        return np.stack([np.asarray(image) for image in images])

    def batch(self, inputs):
        return np.concatenate(inputs)

    def predict(self, pixels):
        (embeddings,) = self.session.run(None, {self.input.name: pixels})
        return embeddings.reshape(len(pixels) // 2, 2, -1)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"similarity": float((1 + output[0] @ output[1]) / 2)}


if __name__ == "__main__":
    api = Verifier(max_batch_size=_MOST_PAIRS, batch_timeout=_WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )

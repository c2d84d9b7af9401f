"""Verdicts from a server, with the interface of `fv.Verifier`. Imports no TensorFlow."""

import base64
import http.client
import json
import secrets
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from fv.alignment import Face
from fv.errors import TemporaryError, UserError
from fv.serving import contract, image_inputs
from fv.serving.contract import MODEL_NAME, InputError, Inputs, Outputs
from fv.serving.verifier import Verifier

_PART_HEAD = b'content-disposition: form-data; name="image"; filename="image"'
_BUSY = (429, 502, 503, 504)  # statuses of a server that may answer a moment later


class Client(Verifier):
    """Asks a server that `fv.serve` runs, which also finds the faces. Threads may share it."""

    def __init__(
        self,
        url: str,
        threshold: float | None = None,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
    ):
        """Asks the server for its model.

        Args:
          url: of the server, such as http://127.0.0.1:8501.
          threshold: similarity from which on two images show the same person, in [0, 1]; the
            model's at this moment by default.
          token: bearer token, if the server wants one.
          timeout_s: longest silence of the server in seconds.

        Raises:
          UserError: the URL is none, or the server refuses.
          TemporaryError: the server cannot be reached.
        """
        self._server = _Remote(url, token, timeout_s)
        self._use(self._server, threshold, _take_points if self._server.finds_faces else None)

    def _call_on_images(
        self, signature: str, batches: dict[str, tuple[list, np.ndarray | None]]
    ) -> tuple[Outputs, dict[str, list[Face]]]:
        """Lets a server that finds faces do so, unless the caller gives their points."""
        if not self._find or any(points is not None for _, points in batches.values()):
            return super()._call_on_images(signature, batches)
        images = [one for batch, _ in batches.values() for one in batch]
        encoded = [image_inputs.encode(one, self._max_pixels) for one in images]
        with contract.use_names({contract.IMAGE: list(map(image_inputs.name_image, images))}):
            embeddings, found = self._server.embed_photographs(encoded)
        if signature == "embed":
            return {contract.EMBEDDING: embeddings}, {contract.IMAGE: found}
        pairs = len(images) // 2
        halves = {
            contract.EMBEDDING_A: embeddings[:pairs],
            contract.EMBEDDING_B: embeddings[pairs:],
        }
        faces = {contract.IMAGE_A: found[:pairs], contract.IMAGE_B: found[pairs:]}
        return self._server.run("compare", halves), faces


def _take_points(batch: list, encoded: list[bytes], points: np.ndarray | None) -> list[Face]:
    """Takes the points that a caller gives; in other images the server finds the faces."""
    if points is None:
        raise UserError("give the points of both images, or of none")
    return image_inputs.take_points(points, len(batch))


class _Remote:
    """An engine on the other side of a connection."""

    def __init__(self, url: str, token: str | None, timeout_s: float):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise UserError(f"{url} is no URL of a server: give one such as http://127.0.0.1:8501")
        self.path, self._timeout_s = url.rstrip("/"), timeout_s
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        model = self._ask("/model")
        self.threshold, self.embedding_size = model["threshold"], model["embedding_size"]
        self.finds_faces = model.get("finds_faces", False)
        self.card = {"images": {"max_megapixels": model["max_megapixels"]}}

    def run(self, signature: str, inputs: Inputs) -> Outputs:
        """Asks for the answer of a signature, as `TensorFlowEngine.run` gives it."""
        body = {
            "signature_name": signature,
            "inputs": {name: _encode(value) for name, value in inputs.items()},
        }
        outputs = self._ask(f"/v1/models/{MODEL_NAME}:predict", body)["outputs"]
        columns = outputs if isinstance(outputs, dict) else {"embedding": outputs}
        return {
            name: np.array(values, bool if name == "same" else np.float32)
            for name, values in columns.items()
        }

    def embed_photographs(self, encoded: list[bytes]) -> tuple[np.ndarray, list[Face]]:
        """Returns embeddings, float32 [batch, d], and the faces that the server found."""
        if not encoded:
            return np.zeros((0, self.embedding_size), np.float32), []
        boundary = secrets.token_hex(16)
        parts = [
            b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary.encode(), _PART_HEAD, one) for one in encoded
        ]
        body = b"".join([*parts, b"--%b--\r\n" % boundary.encode()])
        answer = self._send("/embed", body, f"multipart/form-data; boundary={boundary}")
        faces = [
            Face(np.array(face["points"]), face["box"] and tuple(face["box"]), face["confidence"])
            for face in answer["faces"]
        ]
        return np.array(answer["embeddings"], np.float32), faces

    def _ask(self, path: str, body: dict | None = None) -> dict:
        return self._send(path, None if body is None else json.dumps(body).encode())

    def _send(self, path: str, data: bytes | None, content_type: str = "application/json") -> dict:
        headers = self._headers | {"content-type": content_type}
        request = urllib.request.Request(self.path + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            reason = _reason(error)
            if error.code == 400:
                raise InputError(reason) from error
            kind = TemporaryError if error.code in _BUSY else UserError
            raise kind(f"{self.path}: {reason} (status {error.code})") from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            raise TemporaryError(f"{self.path} does not answer: {cause}") from error
        except ValueError as error:
            raise UserError(f"{self.path} is no server of fv: its answer is no JSON") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason


def _encode(value) -> list:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [{"b64": base64.b64encode(one).decode("ascii")} for one in value]

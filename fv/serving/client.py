"""Verdicts from a server, with the interface of `fv.Verifier`. Imports no TensorFlow."""

import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from fv.errors import TemporaryError, UserError
from fv.serving.contract import MODEL_NAME, InputError, Inputs, Outputs
from fv.serving.verifier import Verifier

_BUSY = (429, 502, 503, 504)  # statuses of a server that may answer a moment later


class Client(Verifier):
    """Asks a server that `fv.serve` runs. Threads may share it."""

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
        self._use(_Remote(url, token, timeout_s), threshold)


class _Remote:
    """An engine on the other side of a connection."""

    def __init__(self, url: str, token: str | None, timeout_s: float):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise UserError(f"{url} is no URL of a server: give one such as http://127.0.0.1:8501")
        self.path, self._timeout_s = url.rstrip("/"), timeout_s
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        model = self._ask("/model")
        self.threshold, self.embedding_size = model["threshold"], model["embedding_size"]
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

    def _ask(self, path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.path + path, data, self._headers)
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

"""TensorFlow Serving's REST format: JSON bodies to arguments of a signature, outputs to JSON.

Source: TensorFlow Serving, RESTful API (predict, model status and model metadata).
"""

import base64
import binascii
import json
import os
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2

from fv import files
from fv.serving.contract import MODEL_NAME, InputError, Outputs

DEFAULT_SIGNATURE = "serving_default"
_BINARY = "b64"
_STRING = "DT_STRING"
_NUMBERS: dict[str, np.dtype] = {"DT_FLOAT": np.dtype(np.float32), "DT_UINT8": np.dtype(np.uint8)}
_HIDDEN = "__"  # starts the name of a signature that is not for callers

Signatures = dict[str, dict]  # SignatureDef messages as JSON, by name


def read_signatures(folder: str) -> Signatures:
    """Reads the signatures of a SavedModel as JSON, by name."""
    data = files.read_bytes(os.path.join(folder, "saved_model.pb"))
    (graph,) = saved_model_pb2.SavedModel.FromString(data).meta_graphs
    return {
        name: json_format.MessageToDict(
            signature,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        for name, signature in sorted(graph.signature_def.items())
        if not name.startswith(_HIDDEN)
    }


def parse_predict(body: bytes, signatures: Signatures) -> tuple[str, dict, bool]:
    """Reads the body of a predict request, in row or column format.

    Returns:
      The name of the signature; its arguments, [batch, …] each, encoded images as a list of bytes;
      and whether the format is by rows.

    Raises:
      InputError: the body is no request to one of the signatures.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("JSON Parse error: the body is no JSON document") from error
    if not isinstance(request, dict):
        raise InputError("JSON Value: the request has to be an object")
    name = request.get("signature_name", DEFAULT_SIGNATURE) or DEFAULT_SIGNATURE
    if not isinstance(name, str) or name not in signatures:
        raise InputError(f'Serving signature name: "{_shorten(name)}" not found in signature def')
    by_rows = "instances" in request
    if by_rows == ("inputs" in request):
        raise InputError("give one of the keys 'instances' (rows) and 'inputs' (columns)")
    specs = signatures[name]["inputs"]
    if by_rows:
        columns = _to_columns(request["instances"], list(specs))
    else:
        columns = _name_only(request["inputs"], list(specs))
    return name, {key: _to_array(columns[key], key, spec) for key, spec in specs.items()}, by_rows


def format_answer(outputs: Outputs, by_rows: bool) -> dict:
    """Returns the JSON object of an answer: `predictions` by rows, or `outputs` by columns."""
    columns = {name: values.tolist() for name, values in outputs.items()}
    if len(columns) == 1:
        (only,) = columns.values()
        return {"predictions": only} if by_rows else {"outputs": only}
    if not by_rows:
        return {"outputs": columns}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def format_status(version: str) -> dict:
    """Returns the status of the loaded version."""
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": version, "state": "AVAILABLE", "status": status}]}


def format_metadata(version: str, signatures: Signatures) -> dict:
    """Returns the signatures of the loaded version."""
    return {
        "model_spec": {"name": MODEL_NAME, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _to_columns(instances: Any, names: list[str]) -> dict[str, list]:
    if not isinstance(instances, list):
        raise InputError("'instances' has to be a list")
    columns: dict[str, list] = {name: [] for name in names}
    for row, instance in enumerate(instances):
        try:
            named = _name_only(instance, names)
        except InputError as error:
            message = f"Failed to process element: {row} of 'instances' list. {error}"
            raise InputError(message) from error
        for name in names:
            columns[name].append(named[name])
    return columns


def _name_only(value: Any, names: list[str]) -> dict[str, Any]:
    """Returns arguments by name; a signature's only argument may be given without its name."""
    if isinstance(value, dict) and value.keys() != {_BINARY}:
        missing = [name for name in names if name not in value]
        if missing:
            raise InputError(f"JSON object: does not have named input: {missing[0]}")
        unknown = [name for name in value if name not in names]
        if unknown:
            raise InputError(f"JSON object: has no input of the name: {_shorten(unknown[0])}")
        return value
    if len(names) > 1:
        raise InputError(f"JSON Value: not an object with the inputs {', '.join(names)}")
    return {names[0]: value}


def _to_array(value: Any, name: str, spec: dict) -> np.ndarray | list[bytes]:
    shape = [int(dim["size"]) for dim in spec["tensor_shape"]["dim"]]
    wanted = f"{name} has to have the shape [batch{''.join(f', {_size(n)}' for n in shape[1:])}]"
    if not isinstance(value, list):
        raise InputError(f"{name} is no batch: {wanted}")
    if spec["dtype"] == _STRING:
        return [_to_bytes(one, f"{name}[{row}]") for row, one in enumerate(value)]
    dtype = _NUMBERS[spec["dtype"]]
    if not value:
        return np.zeros([0, *(max(size, 1) for size in shape[1:])], dtype)
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{name} is no array: {wanted}") from error
    kinds = "iu" if dtype.kind == "u" else "iuf"
    if array.dtype.kind not in kinds or len(array.shape) != len(shape):
        raise InputError(f"{name} is no array of {dtype.name}: {wanted}")
    if any(size not in (-1, found) for size, found in zip(shape, array.shape, strict=True)):
        raise InputError(f"{name} has the shape {list(array.shape)}: {wanted}")
    if dtype.kind == "u" and array.size and not 0 <= array.min() <= array.max() <= 255:
        raise InputError(f"{name} has a number outside 0 to 255: {wanted}")
    with np.errstate(over="ignore"):  # an infinite embedding is refused by its length
        return array.astype(dtype)


def _size(number: int) -> str:
    return "any" if number < 0 else str(number)


def _to_bytes(value: Any, place: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict) and value.keys() == {_BINARY} and isinstance(value[_BINARY], str):
        try:
            return base64.b64decode(value[_BINARY], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"{place}: Unable to base64 decode the value of 'b64'") from error
    raise InputError(f'{place} has to be {{"{_BINARY}": "<base64 of the file>"}}')


def _shorten(value: Any) -> str:
    return str(value)[:40]

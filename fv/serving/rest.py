"""TensorFlow Serving's REST format: JSON bodies to arguments of a signature, outputs to JSON.

Source: TensorFlow Serving, RESTful API (predict, model status and model metadata). The texts of
errors are those of its http_rest_api_handler.cc and json_tensor.cc.
"""

import base64
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
_SHOWN = 256  # characters of a client's value in a message
_KINDS = {type(None): "Null", int: "Number", float: "Number", list: "Array"}
_MULTIPLE = "multiple input tensors required as per tensorinfo_map"
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
    request = _parse_json(body)
    if not isinstance(request, dict):
        raise InputError(f"{_show(request)} Is not object")
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        wanted = "'signature_name' key must be a string value."
        raise InputError(f"{_show(request)} not formatted correctly. {wanted}")
    name = name or DEFAULT_SIGNATURE
    if name not in signatures:
        raise InputError(f'Serving signature name: "{name[:_SHOWN]}" not found in signature def')
    by_rows = "instances" in request
    if by_rows and "inputs" in request:
        wanted = "expecting only one of 'inputs' or 'instances' keys to exist "
        raise InputError(f"{_show(request)} Not formatted correctly {wanted}")
    if not by_rows and "inputs" not in request:
        raise InputError("Missing 'inputs' or 'instances' key")
    specs = signatures[name]["inputs"]
    if by_rows:
        columns = _to_columns(request, sorted(specs))
    else:
        columns = _name_inputs(request["inputs"], sorted(specs))
    inputs: dict[str, np.ndarray | list[bytes]] = {}
    for key, spec in specs.items():
        if spec["dtype"] != _STRING:
            inputs[key] = _to_array(columns[key], key, spec)
        else:
            inputs[key] = _to_strings(columns[key], key, by_rows)
    return name, inputs, by_rows


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
    versions = [{"version": version, "state": "AVAILABLE", "status": status}]
    # KServe's v1 client reads `ready`.
    return {"model_version_status": versions, "name": MODEL_NAME, "ready": True}


def say_missing(name: str, version: str | None, status: bool) -> str:
    """Says that there is no such model or version, to a request for its status or another one."""
    name = name[:_SHOWN]
    if status:
        which = f"version {version}" if version else "any versions"
        return f"Could not find {which} of model {name}"
    which = f"Specific({name}, {version})" if version else f"Latest({name})"
    return f"Servable not found for request: {which}"


def format_metadata(version: str, signatures: Signatures) -> dict:
    """Returns the signatures of the loaded version."""
    return {
        "model_spec": {"name": MODEL_NAME, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _parse_json(body: bytes) -> Any:
    if not body:
        raise InputError("JSON Parse error: The document is empty")
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise InputError(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except UnicodeDecodeError as error:
        reason = "Invalid encoding in string."
        raise InputError(f"JSON Parse error: {reason} at offset: {error.start}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; 1,000 brackets
        raise InputError("JSON Parse error: Too large a number or nesting at offset: 0") from error


def _to_columns(request: dict, names: list[str]) -> dict[str, list]:
    """The rows of `instances` as columns: a list of objects, or of a signature's only argument."""
    instances = request["instances"]
    if not isinstance(instances, list):
        raise InputError(f"{_show(request)} Expecting 'instances' to be an list/array")
    if not instances:
        raise InputError(f"{_show(request)} No values in 'instances' array")
    if not isinstance(instances[0], dict) and len(names) > 1:
        raise InputError(f"instances is a plain list, but expecting list of objects as {_MULTIPLE}")
    named = _is_object(instances[0])
    columns: dict[str, list] = {name: [] for name in names}
    for row, instance in enumerate(instances):
        if _is_object(instance) != named:
            found = "object but got list" if named else "value/list but got object"
            raise InputError(f"Expecting {found} at item {row} of input list")
        given = instance if named else {names[0]: instance}
        for name in given:
            if name not in columns:
                raise InputError(
                    f"Failed to process element: {row} key: {name[:_SHOWN]} of 'instances' list. "
                    "Error: INVALID_ARGUMENT: JSON object: does not have named input: "
                    f"{name[:_SHOWN]}"
                )
            columns[name].append(given[name])
        if given.keys() != columns.keys():
            object_ = _show(instance).replace("Value", "object", 1)
            wanted = f"{object_} keys must be equal to: {','.join(names)}"
            raise InputError(f"Failed to process element: {row} of 'instances' list. {wanted}")
    return columns


def _name_inputs(value: Any, names: list[str]) -> dict[str, Any]:
    """Columns by name; a signature's only argument may be given without its name."""
    if not _is_object(value):
        if len(names) > 1:
            wanted = f"but expecting an object as {_MULTIPLE}"
            raise InputError(f"inputs is a plain value/list, {wanted}")
        return {names[0]: value}
    for name in names:
        if name not in value:
            raise InputError(f"Missing named input: {name} in 'inputs' object.")
    return value


def _is_object(value: Any) -> bool:
    """Whether this is a JSON object and no binary value."""
    binary = isinstance(value, dict) and value.keys() == {_BINARY}
    return isinstance(value, dict) and not (binary and isinstance(value[_BINARY], str))


def _to_strings(value: Any, name: str, by_rows: bool) -> list[bytes]:
    if not isinstance(value, list):
        raise InputError(f"{name} is no batch: {name} has to have the shape [batch]")
    strings = []
    for row, one in enumerate(value):
        try:
            strings.append(_to_bytes(one))
        except InputError as error:
            if not by_rows:
                raise
            place = f"element: {row} key: {name} of 'instances' list"
            message = f"Failed to process {place}. Error: INVALID_ARGUMENT: {error}"
            raise InputError(message) from error
    return strings


def _to_array(value: Any, name: str, spec: dict) -> np.ndarray:
    shape = [int(dim["size"]) for dim in spec["tensor_shape"]["dim"]]
    wanted = f"{name} has to have the shape [batch{''.join(f', {_size(n)}' for n in shape[1:])}]"
    if not isinstance(value, list):
        raise InputError(f"{name} is no batch: {wanted}")
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


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if not isinstance(value, dict):
        kind = str(value) if isinstance(value, bool) else _KINDS[type(value)]
        raise InputError(f"{_show(value)} Type: {kind} is not of expected type: string")
    if _is_object(value):
        raise InputError(f"{_show(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value[_BINARY], validate=True)
    except ValueError as error:
        raise InputError("Unable to base64 decode") from error


def _show(value: Any) -> str:
    """The start of a JSON value, for a message."""
    text = ""
    for part in json.JSONEncoder().iterencode(value):
        text += part[: _SHOWN - len(text)]
        if len(text) >= _SHOWN:
            break
    return f"JSON Value: {text}"

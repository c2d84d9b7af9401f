"""Parquet files with image bytes and labels, in the columns that Hugging Face `datasets` writes.

A row cannot be read by itself, so images are copied to files from which they can, before all else.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fv import errors, files, progress, workers
from fv.conversion import datasets
from fv.conversion.datasets import Catalog
from fv.errors import TemporaryError, UserError

SUFFIX = ".parquet"

_IMAGES = ("image", "img", "jpg", "jpeg", "bytes", "picture")  # columns; the first wins
_BATCH_ROWS = 16  # decoded at once
_BUFFER_BYTES = 1 << 20
# In pyarrow's errors of remote files, which have no errno.
_TEMPORARY = (
    "AWS Error NETWORK_CONNECTION",
    "AWS Error SERVICE_UNAVAILABLE",
    "google::cloud::Status(UNAVAILABLE",
)


def list_images(
    paths: Sequence[str], merge_names: bool = False, column: str | None = None
) -> Catalog:
    """Lists the rows of Parquet files of different names, whose path is FILE/ROW.

    Only the labels are read, from `column` or the first of `datasets.LABEL_NAMES`.

    Raises:
      UserError: pyarrow is missing, a file is no Parquet, or has no column of images or of labels.
      TemporaryError: the network failed.
    """
    found: list[str] = []
    unusable: list[tuple[str, str]] = []
    labels, places = [], []
    with progress.Progress(len(paths), "index", "file") as bar:
        for path in paths:
            with _open(path) as file:
                _image_column(file, path)  # refuses a file without one
                names = _read_labels(file, path, column)
            rows, base = np.flatnonzero(names.codes >= 0), os.path.basename(path)
            missing = np.flatnonzero(names.codes < 0).tolist()
            unusable += [(f"{base}/{row}", "no label") for row in missing]
            found += [f"{base}/{row}" for row in rows.tolist()]
            labels.append(names[rows])
            places.append(rows)
            bar.update()
    identity = pd.api.types.union_categoricals(labels, sort_categories=True)
    codes, rows = np.repeat(np.arange(len(paths)), [*map(len, places)]), np.concatenate(places)
    held_in = (codes, rows, np.zeros(len(rows)))
    return datasets.list_held_images(found, identity, merge_names, paths, held_in, unusable)


def unpack(images: pd.DataFrame, scratch: str, run: workers.Map) -> pd.DataFrame:
    """Copies the images of row groups to files in `scratch`, in worker processes.

    Returns:
      The table with the new `file`, `place` and `span` of each image.

    Raises:
      UserError: a file is damaged.
      TemporaryError: the network failed.
    """
    tasks, owners = [], []
    for number, path in enumerate(images["file"].cat.categories):
        with _open(path) as file:
            groups = range(file.num_row_groups)
        tasks += [
            (path, group, os.path.join(scratch, f"{number}-{group}.rows")) for group in groups
        ]
        owners += [number for _ in groups]
    sizes = []
    with progress.Progress(len(tasks), "unpack", "row group") as bar:
        for found in run(unpack_group, tasks):
            sizes.append(found)
            bar.update()
    # Number the rows of all files one after the other.
    starts = np.cumsum([0, *map(len, sizes)])
    rows = images["place"].to_numpy() + starts[np.searchsorted(owners, images["file"].cat.codes)]
    groups = np.searchsorted(starts, rows, side="right").astype(np.int32) - 1
    targets = pd.Index([target for _, _, target in tasks], dtype=object)
    return images.assign(
        file=pd.Categorical.from_codes(groups, targets),
        place=np.concatenate([np.cumsum(each) - each for each in sizes])[rows],
        span=np.concatenate(sizes)[rows].astype(np.uint32),
    )


def unpack_group(task: tuple[str, int, str]) -> np.ndarray:
    """Copies the images of one row group to a file; returns their bytes, int64 [rows]."""
    path, group, target = task
    sizes = []
    with _open(path) as file, _refuse_damaged(path), files.atomic_open(target, "wb") as output:
        column = _image_column(file, path)
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column]):
            values = batch.column(0)
            for value in values.field("bytes") if "." in column else values:
                data = value.as_py() or b""  # an empty file, which the check refuses
                output.write(data)
                sizes.append(len(data))
        if len(sizes) != file.metadata.row_group(group).num_rows:
            raise ValueError(f"row group {group} has {len(sizes)} rows")
    return np.array(sizes, np.int64)


def _open(path: str) -> Any:
    """Opens a Parquet file as a `pyarrow.parquet.ParquetFile`."""
    try:
        from pyarrow import fs, parquet
    except ImportError as error:
        raise UserError(f"{path} needs pyarrow: pip install 'fv[parquet]'") from error
    with _refuse_damaged(path):
        source: Any = path
        if files.is_remote(path):
            system, name = fs.FileSystem.from_uri(path)
            source = system.open_input_file(name)
        return parquet.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)


@contextlib.contextmanager
def _refuse_damaged(path: str) -> Iterator[None]:
    """Makes pyarrow's errors UserErrors, or TemporaryErrors where the network failed."""
    try:
        yield
    except (ValueError, NotImplementedError, OSError) as error:
        if getattr(error, "errno", None):  # of the disk
            raise
        text = str(error)
        first = text.splitlines()[0]
        quoted = errors.quotes_temporary(text) or any(each in text for each in _TEMPORARY)
        if errors.is_temporary(error) or (isinstance(error, OSError) and quoted):
            raise TemporaryError(f"{path} cannot be read: {first}") from error
        raise UserError(f"{path} is no Parquet file, or damaged: {first}; get it again") from error


def _image_column(file: Any, path: str) -> str:
    """The name of the column of image bytes, or of the field `bytes` in a struct."""
    from pyarrow import types

    found = {}
    for field in file.schema_arrow:
        name, kind = field.name, field.type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            name, kind = f"{name}.bytes", kind.field("bytes").type
        if types.is_binary(kind) or types.is_large_binary(kind):
            found[field.name] = name
    column = next((found[name] for name in (*_IMAGES, *found) if name in found), None)
    if column is None:
        raise UserError(
            f"{path} has no column of images, which is of type binary or struct<bytes: binary>: "
            f"its columns are {_describe(file)}"
        )
    return column


def _read_labels(file: Any, path: str, column: str | None) -> pd.Categorical:
    """The label of each row; a missing one has no code."""
    from pyarrow import types

    schema = file.schema_arrow
    candidates = [column] if column else datasets.LABEL_NAMES
    name = next((each for each in candidates if each in schema.names), None)
    if name is None:
        raise UserError(
            f"{path} has no column {' or '.join(candidates)}: give the column of the labels as "
            f"--labels=NAME; there are {_describe(file)}"
        )
    kind = schema.field(name).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
        raise UserError(
            f"{path}: its column {name} is {kind}, and labels are integers or strings: give the "
            "column of the labels as --labels=NAME"
        )
    with _refuse_damaged(path):
        encoded = file.read(columns=[name]).column(0).cast(kind).dictionary_encode()
    encoded = encoded.combine_chunks()
    texts = dict(enumerate(_class_names(schema, name)))
    names = [str(texts.get(each, each)).strip() or None for each in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(-1).to_numpy(False)
    return pd.Categorical(pd.Index(np.array([*names, None], object)[codes], dtype=object))


def _class_names(schema: Any, column: str) -> list[str]:
    """The names of a `datasets.ClassLabel`, by number."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        return [str(name) for name in described["info"]["features"][column]["names"]]
    except (KeyError, ValueError, TypeError):
        return []


def _describe(file: Any) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in file.schema_arrow)

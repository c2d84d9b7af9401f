"""Files of embeddings: one row for each image, with its path, person and quality.

A .parquet file needs pyarrow. A .npz file holds the same columns as arrays. Other programs may
write such files: `path` and `embedding` suffice.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np

from fv import files
from fv.errors import UserError

PATH, IDENTITY, EMBEDDING = "path", "identity", "embedding"
Block = Mapping[str, np.ndarray]  # the columns of consecutive rows
_PARQUET, _NPZ = ".parquet", ".npz"
# What NumPy and pyarrow raise on a damaged file, or one of other types.
_DAMAGED = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class Embeddings(NamedTuple):
    """The content of a file.

    Attributes:
      paths: str [n], distinct.
      identities: str [n]; "" where the file does not say.
      vectors: float32 [n, d], finite, of unit length.
    """

    paths: np.ndarray
    identities: np.ndarray
    vectors: np.ndarray


def require_format(path: str) -> None:
    """Checks that a file can be read or written.

    Raises:
      UserError: its name has another suffix, or pyarrow is missing.
    """
    if not path.endswith((_PARQUET, _NPZ)):
        raise UserError(f"{path} is neither a .parquet nor a .npz file: give one")
    if path.endswith(_PARQUET):
        _load_pyarrow(path)


def write(path: str, blocks: Callable[[], Iterator[Block]]) -> None:
    """Writes a file block by block; the same blocks give the same bytes.

    Args:
      path: of the file.
      blocks: yields the blocks from the first one on, each time it is called.
    """
    with files.atomic_open(path, "wb") as file:
        if path.endswith(_PARQUET):
            _write_parquet(file, path, blocks())
        else:
            _write_npz(file, blocks)


def read(path: str) -> Embeddings:
    """Reads a file; vectors are scaled to unit length.

    Raises:
      UserError: it is damaged, lacks a column, names an image twice, or holds a vector that is zero
        or not finite.
    """
    require_format(path)
    try:
        with files.open_bytes(path) as file:
            columns = _read_parquet(file, path) if path.endswith(_PARQUET) else _read_npz(file)
        paths, vectors = columns[PATH].astype(str), columns[EMBEDDING].astype(np.float32)
        identities = columns.get(IDENTITY, np.full(len(paths), "")).astype(str)
        shapes = paths.shape, identities.shape, vectors.shape
        if not (shapes[0] == shapes[1] == shapes[2][:1] > (0,) and vectors.ndim == 2):
            raise ValueError(f"the shapes of {PATH}, {IDENTITY} and {EMBEDDING} are {shapes}")
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno:
            raise
        needed = f"the columns {PATH} and {EMBEDDING}, one vector of the same length for each image"
        raise UserError(f"{path} does not hold {needed}: {error}") from error
    if len(np.unique(paths)) < len(paths):
        raise UserError(f"{path} names an image twice: give each image one row")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise UserError(
            f"{path}: the embedding of {paths[bad[0]]} is zero or not finite: leave out its row"
        )
    return Embeddings(paths, identities, vectors / lengths)


def _load_pyarrow(path: str) -> Any:
    try:
        from pyarrow import parquet  # an extra
    except ImportError as error:
        raise UserError(
            f"{path} needs pyarrow: pip install 'fv[parquet]', or take a .npz file"
        ) from error
    return parquet


def _write_parquet(file: IO[bytes], path: str, blocks: Iterator[Block]) -> None:
    parquet, writer = _load_pyarrow(path), None
    import pyarrow

    for block in blocks:
        columns: dict[str, Any] = dict(block)
        vectors = block[EMBEDDING]
        columns[EMBEDDING] = pyarrow.FixedSizeListArray.from_arrays(
            vectors.ravel(), vectors.shape[1]
        )
        table = pyarrow.table(columns)
        writer = writer or parquet.ParquetWriter(file, table.schema, use_dictionary=[IDENTITY])
        writer.write_table(table)
    if writer:
        writer.close()


def _read_parquet(file: IO[bytes], path: str) -> dict[str, np.ndarray]:
    table = _load_pyarrow(path).read_table(file)
    import pyarrow
    from pyarrow import compute

    def read_texts(name: str) -> np.ndarray:
        return table[name].cast(pyarrow.large_string()).fill_null("").to_numpy()

    found = {name: read_texts(name) for name in (PATH, IDENTITY) if name in table.schema.names}
    vectors = table[EMBEDDING]
    lengths = compute.list_value_length(vectors).to_numpy()  # NaN where there is none
    if (lengths != lengths[:1]).any():
        raise ValueError("lengths differ")
    numbers = compute.list_flatten(vectors).to_numpy()
    return found | {EMBEDDING: numbers.reshape(len(lengths), int(max(lengths[:1], default=0)))}


def _write_npz(file: IO[bytes], blocks: Callable[[], Iterator[Block]]) -> None:
    """Writes one array after the other: np.savez would hold all of them in memory."""
    rows, types, shapes = 0, dict[str, np.dtype](), dict[str, tuple[int, ...]]()
    for block in blocks():
        rows += len(block[PATH])
        shapes = {name: values.shape[1:] for name, values in block.items()}
        for name, values in block.items():  # the longest text decides the type of all
            types[name] = np.promote_types(types.get(name, values.dtype), values.dtype)
    with zipfile.ZipFile(file, "w") as archive:
        for name, dtype in types.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is the same each time
            with archive.open(member, "w", force_zip64=True) as array:
                header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype))
                np.lib.format.write_array_header_1_0(
                    array, header | {"shape": (rows, *shapes[name])}
                )
                for block in blocks():
                    array.write(block[name].astype(dtype).tobytes())


def _read_npz(file: IO[bytes]) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in (PATH, EMBEDDING, IDENTITY) if name in arrays}

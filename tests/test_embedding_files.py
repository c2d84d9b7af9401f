"""Files of embeddings, of fv.embed and of other programs, are read or refused in one line."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from fv import embedding_files
from fv.errors import UserError


def test_a_file_of_another_program_needs_path_and_embedding_only(tmp_path):
    path = str(tmp_path / "a.npz")
    np.savez(path, path=["a/1.jpg", "a/2.jpg"], embedding=[[3.0, 4.0], [0.0, 2.0]])
    found = embedding_files.read(path)
    np.testing.assert_allclose(found.vectors, [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)
    assert found.identities.tolist() == ["", ""]
    for columns, message in (
        ({"path": ["a", "a"]}, "names an image twice"),
        ({"embedding": [[0.0, 0.0], [1.0, 0.0]]}, "embedding of a/1.jpg is zero or not finite"),
        ({"embedding": [1.0, 2.0]}, "one vector of the same length"),
        ({"embedding": [["a", "b"], ["c", "d"]]}, "could not convert"),
        ({"identity": ["a"]}, "the shapes of path, identity and embedding"),
        ({"path": [], "embedding": np.zeros((0, 2))}, "the shapes of path"),
    ):
        whole = {"path": ["a/1.jpg", "a/2.jpg"], "embedding": [[3.0, 4.0], [0.0, 2.0]]}
        np.savez(path, **(whole | columns))
        with pytest.raises(UserError, match=message):
            embedding_files.read(path)


def test_a_parquet_file_of_other_types_is_read_or_refused(tmp_path):
    path = str(tmp_path / "a.parquet")

    def read(**columns):
        parquet.write_table(pa.table({"path": ["a", "b"]} | columns), path)
        return embedding_files.read(path)

    found = read(path=[1, 2], identity=["x", None], embedding=[[3, 4], [0, 2]])
    np.testing.assert_allclose(found.vectors, [[0.6, 0.8], [0.0, 1.0]], rtol=1e-6)
    assert (found.paths.tolist(), found.identities.tolist()) == (["1", "2"], ["x", ""])
    for columns, message in (
        ({"identity": ["x", "y"]}, "'embedding|\"embedding"),
        ({"path": ["a", "b", "c"], "embedding": [[1.0], [1.0, 2.0], [1.0]]}, "lengths differ"),
        ({"embedding": [None, [1.0]]}, "lengths differ"),
        ({"embedding": [1.0, 2.0]}, "double"),
        ({"embedding": [["a"], ["b"]]}, "could not convert"),
        ({"path": [["a"], ["b"]], "embedding": [[1.0], [2.0]]}, "list"),
    ):
        with pytest.raises(UserError, match=message):
            read(**columns)


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_damaged_file_of_embeddings_is_refused(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    block = {"path": np.array(["a"]), "identity": np.array(["b"]), "embedding": np.ones((1, 300))}
    embedding_files.write(str(path), lambda: iter([block]))
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:-80] + 60 * b"\x99" + whole[-20:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="does not hold the columns path and embedding"):
            embedding_files.read(str(path))

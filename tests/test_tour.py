"""Runs docs/tour.ipynb."""

import pathlib

import nbclient
import nbformat
import pytest

PATH = pathlib.Path(__file__).parent.parent / "docs" / "tour.ipynb"


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_notebook_is_stored_with_its_pictures():
    assert pictures(nbformat.read(PATH, 4)) == 4


@pytest.mark.slow
def test_the_notebook_runs_to_its_verdicts(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PATH.parent.parent))
    notebook = nbformat.read(PATH, 4)
    nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3").execute()
    assert pictures(notebook) == 4
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "Traceback" not in printed and "error:" not in printed
    assert "test: " in printed and "AUC" in printed

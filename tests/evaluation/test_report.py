import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest

from fv.errors import UserError
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import comparison, report
from tests.evaluation.making import scores

pytestmark = pytest.mark.usefixtures("blank_pictures")


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> EvaluateOptions:
    """Given scores that were evaluated into a folder named after them."""
    path = tmp_path_factory.mktemp("scored") / "some.csv"
    labels = np.arange(60) % 2
    pd.DataFrame({"label": labels, "score": scores(labels, 0)}).to_csv(path, index=False)
    options = EvaluateOptions(scores=str(path), folds=3, bootstrap=0)
    evaluate(options)
    return options


@pytest.fixture
def options(scored, tmp_path) -> EvaluateOptions:
    """The same in a folder of its own."""
    shutil.copytree(pathlib.Path(scored.scores).parent, tmp_path, dirs_exist_ok=True)
    return EvaluateOptions(scores=str(tmp_path / "some.csv"), folds=3, bootstrap=0)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_evaluation_replaces_its_own_files(options, tmp_path):
    before = contents(tmp_path / "some")
    evaluate(EvaluateOptions(scores=options.scores, folds=3, bootstrap=0, seed=5))
    assert (
        contents(tmp_path / "some").keys() == before.keys()
        and contents(tmp_path / "some") != before
    )


@pytest.mark.parametrize("name", report.OF_SCORES)
def test_a_foreign_file_in_a_folder_of_the_scores_name_is_refused(options, tmp_path, name):
    shutil.rmtree(tmp_path / "some")
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / name).write_text("{}")
    with pytest.raises(UserError, match=f"some holds files that fv did not write, .*: {name};"):
        evaluate(options)
    assert contents(tmp_path / "some") == {name: b"{}"}


def test_a_file_of_an_evaluation_that_was_changed_since_is_refused(options, tmp_path):
    (tmp_path / "some" / "roc.png").write_bytes(b"retouched")
    before = contents(tmp_path / "some")
    with pytest.raises(UserError, match=r"changed since: roc\.png;"):
        evaluate(options)
    assert contents(tmp_path / "some") == before


def test_a_copy_without_its_hidden_folder_is_known_by_its_figures(options, tmp_path):
    shutil.rmtree(tmp_path / "some" / ".fv")
    evaluate(options)
    shutil.rmtree(tmp_path / "some" / ".fv")
    (tmp_path / "some" / "metrics.json").write_text('{"loss": 0.5}')
    with pytest.raises(UserError, match="metrics.json, roc.png, det.png, … "):
        evaluate(options)


@pytest.mark.parametrize("name", report.OF_MODEL)
def test_an_evaluation_of_a_model_replaces_no_foreign_file(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"did not write, or that were changed since: {name};"):
        report.claim_outputs(str(tmp_path), report.OF_MODEL, EvaluateOptions())


def test_scores_without_a_suffix_need_a_folder_of_their_own(options, tmp_path):
    shutil.copy(options.scores, tmp_path / "plain")
    with pytest.raises(
        UserError, match="plain is a file, no folder for an evaluation: give --output"
    ):
        evaluate(EvaluateOptions(scores=str(tmp_path / "plain"), folds=3, bootstrap=0))


def test_a_list_of_pairs_that_would_be_replaced_is_refused(tmp_path):
    pairs = tmp_path / "scores.csv"
    pairs.write_text("image_a,image_b,label")
    with pytest.raises(
        UserError, match=r"scores\.csv is a file that this command reads: give another name"
    ):
        report.claim_outputs(str(tmp_path), report.OF_MODEL, EvaluateOptions(pairs_csv=str(pairs)))


def test_a_comparison_replaces_comparisons_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "_load", lambda run: {})
    monkeypatch.setattr(comparison, "_warnings", lambda found: [])
    monkeypatch.setattr(comparison, "render_table", lambda found: "")
    monkeypatch.setattr(comparison, "render_page", lambda found: "<title>2 evaluations</title>")
    page = tmp_path / "comparison.html"
    page.write_text("<title>2 evaluations</title> of an earlier fv")
    for _ in range(2):
        comparison.compare(["one", "two"], str(tmp_path))
    page.write_text("<title>Prices</title>")
    with pytest.raises(UserError, match=r"changed since: comparison\.html;"):
        comparison.compare(["one", "two"], str(tmp_path))
    assert page.read_text() == "<title>Prices</title>"

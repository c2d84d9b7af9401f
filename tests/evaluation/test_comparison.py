import json

import pytest

from fv import cli
from fv.errors import UserError
from fv.evaluation import comparison
from fv.evaluation.run import EvaluateOptions, evaluate


def run(folder, name, accuracy, pairs=100, step=1):
    point = dict(tar=None, impostors=50)
    content = dict(
        accuracy=accuracy, accuracy_standard_error=0.01, auc=0.9, eer=0.1, tar_at_far={"0.01": point}, pairs=pairs
    )
    content |= dict(genuine=50, split="test", probability={"brier": 0.1}, notes=[f"note of {name}"], step=step)
    content |= dict(run={"model": {"backbone": name}})
    (folder / name).mkdir()
    (folder / name / "metrics.json").write_text(json.dumps(content))
    return str(folder / name)


def test_runs_stand_side_by_side_in_one_table_and_one_page(tmp_path, capsys):
    comparison.compare([run(tmp_path, "one", 0.8125), run(tmp_path, "two", 0.9375)], None)
    page, text = (tmp_path / "one" / "comparison.html").read_text(), capsys.readouterr().out
    for said in ("0.8125 ± 0.0100", "0.9375 ± 0.0100", "not measurable"):
        assert said in page and said in text
    assert "note of two" in page and "backbone" in page and "do not compare" not in page


def test_runs_on_other_pairs_are_warned_of(tmp_path, capsys):
    comparison.compare([run(tmp_path, "one", 0.8), run(tmp_path, "two", 0.9, pairs=200)], str(tmp_path / "out"))
    assert "not scored on the same pairs" in (tmp_path / "out" / "comparison.html").read_text()
    assert "not scored on the same pairs" in capsys.readouterr().out


def test_the_command_takes_any_number_of_runs(tmp_path, capsys):
    runs = [run(tmp_path, name, 0.5) for name in ("one", "two", "three")]
    with pytest.raises(SystemExit) as left:
        cli.run(evaluate, EvaluateOptions, ["…"], argv=["x", "--compare", *runs])
    assert not left.value.code and runs[2] in capsys.readouterr().out


def test_a_single_run_an_empty_folder_and_older_figures_are_refused(tmp_path):
    one = run(tmp_path, "one", 0.8)
    with pytest.raises(UserError, match="is one run: give two or more"):
        comparison.compare([one], None)
    with pytest.raises(UserError, match=r"holds no metrics\.json"):
        comparison.compare([one, str(tmp_path)], None)
    (tmp_path / "metrics.json").write_text('{"accuracy": 1}')
    with pytest.raises(UserError, match="older fv"):
        comparison.compare([one, str(tmp_path)], None)

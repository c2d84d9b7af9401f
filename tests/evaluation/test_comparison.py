import json

import pytest

from fv import cli
from fv.errors import UserError
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import comparison


def write_run(folder, name, accuracy, pairs=100, step=1, digest="ab", training=None, **flags):
    point = dict(tar=None, impostors=50)
    content = dict(
        accuracy=accuracy,
        accuracy_standard_error=0.01,
        auc=0.9,
        eer=0.1,
        tar_at_far={"0.01": point},
        pairs=pairs,
    )
    content |= dict(
        genuine=50, split="test", probability={"brier": 0.1}, notes=[f"note of {name}"], step=step
    )
    content |= dict(
        run={"model": {"backbone": name}, "training": training, "flags": flags}, pairs_sha256=digest
    )
    (folder / name).mkdir(parents=True)
    (folder / name / "metrics.json").write_text(json.dumps(content))
    return str(folder / name)


def test_runs_are_compared_in_a_table_and_a_page(tmp_path, capsys):
    comparison.compare(
        [write_run(tmp_path, "one", 0.8125), write_run(tmp_path, "two", 0.9375)], None
    )
    page, text = (tmp_path / "one" / "comparison.html").read_text(), capsys.readouterr().out
    for said in ("0.8125 ± 0.0100", "0.9375 ± 0.0100", "not measurable"):
        assert said in page and said in text
    assert "note of two" in page and "backbone" in page and "do not compare" not in page


def test_other_pairs_are_warned_of_without_a_digest(tmp_path, capsys):
    comparison.compare(
        [write_run(tmp_path, "one", 0.8), write_run(tmp_path, "two", 0.9, pairs=200, digest=None)],
        str(tmp_path / "out"),
    )
    assert "not scored on the same pairs" in (tmp_path / "out" / "comparison.html").read_text()
    assert "not scored on the same pairs" in capsys.readouterr().out


def test_other_pairs_are_warned_of_by_their_digest(tmp_path, capsys):
    comparison.compare(
        [write_run(tmp_path, "one", 0.8), write_run(tmp_path, "two", 0.9, digest="cd")], None
    )
    assert "not scored on the same pairs" in capsys.readouterr().out


def test_runs_scored_in_different_ways_are_warned_of(tmp_path, capsys):
    ways = dict(one=dict(flip=True, checkpoint="best"), two=dict(flip=False, checkpoint="best"))
    comparison.compare([write_run(tmp_path, name, 0.8, **way) for name, way in ways.items()], None)
    page, text = (tmp_path / "one" / "comparison.html").read_text(), capsys.readouterr().out
    for said in ("not scored in the same way", "flip True", "flip False"):
        assert said in text and said in page
    assert "checkpoint best" not in text


def test_what_differs_between_the_training_runs_is_in_the_page(tmp_path):
    runs = [
        write_run(
            tmp_path,
            name,
            0.8,
            training={"revision": "abc", "flags": {"seed": seed, "steps": "30", "workdir": name}},
        )
        for name, seed in (("one", "7"), ("two", "8"))
    ]
    comparison.compare(runs, None)
    models = (tmp_path / "one" / "comparison.html").read_text().split("<h2>Models</h2>")[1]
    assert (
        ">seed<" in models
        and ">steps<" not in models
        and ">workdir<" not in models
        and "abc" not in models
    )


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (("a/plain/seed_0/evaluation", "a/flip/seed_0/evaluation"), ["plain", "flip"]),
        (("a/plain/seed_0/evaluation", "a/plain/seed_1/evaluation"), ["seed_0", "seed_1"]),
        (("runs/a", "runs/a/more"), ["a", "a/more"]),
        (("one/of_a_long_name_that_ends_alike", "other_of_a_long_name_that_ends_alike"), None),
    ],
)
def test_every_run_has_a_label_of_its_own(folders, labels):
    found = comparison._labels(dict.fromkeys(folders))
    assert len(set(found)) == len(folders) and all(len(label) <= 16 for label in found)
    assert labels is None or found == labels


def test_the_command_takes_any_number_of_runs(tmp_path, capsys):
    runs = [write_run(tmp_path, name, 0.5) for name in ("one", "two", "three")]
    with pytest.raises(SystemExit) as left:
        cli.run(evaluate, EvaluateOptions, ["…"], argv=["x", "--compare", *runs])
    assert not left.value.code and runs[2] in capsys.readouterr().out


def test_a_single_run_an_empty_folder_and_older_figures_are_refused(tmp_path):
    one = write_run(tmp_path, "one", 0.8)
    with pytest.raises(UserError, match="is one run: give two or more"):
        comparison.compare([one], None)
    with pytest.raises(UserError, match=r"holds no metrics\.json"):
        comparison.compare([one, str(tmp_path)], None)
    (tmp_path / "metrics.json").write_text('{"accuracy": 1}')
    with pytest.raises(UserError, match="another fv"):
        comparison.compare([one, str(tmp_path)], None)

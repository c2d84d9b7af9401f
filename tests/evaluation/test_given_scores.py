import dataclasses
import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest

from fv import metrics
from fv.errors import UserError
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import given_scores
from tests.evaluation.making import scores

pytestmark = pytest.mark.usefixtures("blank_pictures")


def write(path: pathlib.Path, seed: int = 0, people: bool = True) -> str:
    """240 pairs of 24 people, half of them genuine; impostors in couples, so that folds fill."""
    labels = np.arange(240) % 2
    columns = {"label": labels, "score": scores(labels, seed)}
    if people:
        first = np.random.default_rng(seed).integers(24, size=240)
        second = np.where(labels == 1, first, first ^ 1)
        columns |= {
            "identity_a": [f"p{person}" for person in first],
            "identity_b": [f"p{person}" for person in second],
        }
    pd.DataFrame(columns).assign(more="x").to_csv(path, index=False)
    return str(path)


@pytest.fixture
def options(tmp_path) -> EvaluateOptions:
    return EvaluateOptions(scores=write(tmp_path / "some.csv"), folds=3, bootstrap=20)


def figures_of(folder: pathlib.Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_given_scores_have_figures_and_plots(options, tmp_path, capsys):
    evaluate(options)
    found, held = figures_of(tmp_path / "some"), pd.read_csv(options.scores)
    assert found["auc"] == pytest.approx(
        metrics.roc(held.score.to_numpy(), held.label.to_numpy()).auc()
    )
    assert (
        found["pairs"] == 240
        and len(found["folds"]) == 3
        and found["intervals"]["auc"][0] <= found["auc"]
    )
    assert all(
        (tmp_path / "some" / f"{name}.png").exists()
        for name in ("roc", "det", "histogram", "reliability")
    )
    said = capsys.readouterr().out
    assert "some.csv: 120 genuine and 120 impostor pairs\n" in said
    assert said.endswith(f"\nfigures: {tmp_path}/some/metrics.json\n")


def test_people_whose_names_are_written_in_two_ways_are_noted(options, tmp_path):
    table = pd.read_csv(options.scores)
    genuine = int(np.flatnonzero(table["label"] == 1)[0])
    table.loc[genuine, ["identity_a", "identity_b"]] = table.loc[genuine, "identity_a"].upper()
    table.to_csv(options.scores, index=False)
    evaluate(dataclasses.replace(options, bootstrap=0))
    assert "1 name written in several ways" in figures_of(tmp_path / "some")["notes"][-1]
    evaluate(dataclasses.replace(options, bootstrap=0, merge_names=False))
    assert not [note for note in figures_of(tmp_path / "some")["notes"] if "several ways" in note]


def test_given_scores_and_comparisons_do_not_load_tensorflow(options, command):
    script = "import sys; from fv import evaluate; sys.modules['tensorflow'] = None; evaluate.run()"
    folder = options.scores.removesuffix(".csv")
    for flags in (
        [f"--scores={options.scores}", "--folds=3", "--bootstrap=20"],
        ["--compare", folder, folder],
    ):
        run = command("-c", script, *flags)
        assert (run.returncode, run.stderr) == (0, "")


def test_folds_are_of_people_if_known_and_of_pairs_if_not(options, tmp_path):
    evaluate(options)
    assert all(
        fold["chosen_on"] + fold["pairs"] <= 240 for fold in figures_of(tmp_path / "some")["folds"]
    )
    evaluate(dataclasses.replace(options, scores=write(tmp_path / "plain.csv", people=False)))
    found = figures_of(tmp_path / "plain")
    assert [fold["chosen_on"] for fold in found["folds"]] == [160] * 3 and "intervals" not in found


def test_the_threshold_of_other_scores_decides(options, tmp_path):
    others = write(tmp_path / "others.csv", seed=1)
    output = tmp_path / "out"
    evaluate(dataclasses.replace(options, folds=None, threshold_scores=others, output=str(output)))
    held = pd.read_csv(others)
    assert (
        figures_of(output)["threshold"]
        == metrics.roc(held.score.to_numpy(), held.label.to_numpy()).best_threshold()
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,points\n1,0.5\n", "has no column score"),
        ("label,score,identity_a\n1,0.5,Ada\n", "has no column identity_b"),
        ("label,score\n1,0.5\n2,0.5\n", "line 3: label '2' is neither"),
        ("label,score\n1,0.5\n0,\n", "line 3: score '' is no finite number"),
        ("label,score\nsame,0.5\n", "line 2: label 'same' is neither"),
        ("", "has no column label"),
        ("label,score,identity_a,identity_b\n1,0.5,Ada,\n", "line 2: an identity is missing"),
        (
            "label,score,identity_a,identity_b\n1,0.5,Ada,Bob\n",
            "line 2: the label and the identities disagree",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_line(tmp_path, text, said):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        given_scores.read(str(tmp_path / "bad.csv"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(folds=None), "may not come from"),
        (dict(threshold_scores="others.csv"), "exclude each other"),
        (dict(tfrecords="shards"), "exclude each other"),
        (dict(workdir="run"), "--workdir is for a model, not for --scores"),
        (dict(scores=None, threshold_scores="others.csv"), "others.csv is for --scores: give"),
    ],
)
def test_flags_that_do_not_fit_given_scores_are_refused(options, changes, said):
    with pytest.raises(UserError, match=said):
        evaluate(dataclasses.replace(options, **changes))


def test_people_are_numbered_alike_on_both_sides(options):
    given = given_scores.read(options.scores)
    people = given.pairs.people()
    np.testing.assert_array_equal(people[:, 0] == people[:, 1], given.labels == 1)


@pytest.mark.parametrize("people", [False, True])
def test_folds_without_a_pair_are_refused_before_writing(options, tmp_path, people):
    few = pd.read_csv(write(tmp_path / "all.csv", people=people)).iloc[:6]
    few.to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(UserError, match="--folds=10 leaves a fold without a pair"):
        evaluate(dataclasses.replace(options, scores=str(tmp_path / "few.csv"), folds=10))
    assert not (tmp_path / "few").exists()


def test_a_fold_whose_people_are_in_all_other_pairs_is_named(tmp_path):
    people = [(a, b) for a in range(5) for b in range(a, 5)]  # everyone meets everyone
    rows = [f"{int(a == b)},{0.1 * a + 0.01 * b},p{a},p{b}" for a, b in people]
    (tmp_path / "few.csv").write_text("\n".join(["label,score,identity_a,identity_b", *rows]))
    with pytest.raises(UserError) as refused:
        evaluate(EvaluateOptions(scores=str(tmp_path / "few.csv"), folds=5))
    said = str(refused.value)
    assert re.match(r"fold \d of 5 has no genuine pair to choose its threshold on: ", said)
    assert "pairs in other folds share a person with it; give pairs of more people, or " in said
    assert said.endswith("--threshold_scores") and not (tmp_path / "few").exists()


def test_scores_of_nobody_that_are_in_both_files_are_noted(tmp_path):
    scored = pathlib.Path(write(tmp_path / "some.csv", people=False))
    rows = scored.read_text().splitlines()
    for lines, noted in (([*rows[:101], "1,0.123456789,x"], True), (None, False)):
        other = tmp_path / "others.csv"
        if lines:
            other.write_text("\n".join(lines))
        else:
            write(other, seed=1, people=False)
        evaluate(
            EvaluateOptions(
                scores=str(scored), threshold_scores=str(other), output=str(tmp_path / f"{noted}")
            )
        )
        said = "100 of the 240 scored pairs have the score and the label of one that chose the "
        said += "threshold"
        assert any(said in note for note in figures_of(tmp_path / f"{noted}")["notes"]) == noted

import dataclasses
import json
import pathlib

import pandas as pd
import pytest

from fv import metrics
from fv.errors import UserError
from fv.evaluation.run import EvaluateOptions, evaluate


@pytest.fixture
def options(trained) -> EvaluateOptions:
    return EvaluateOptions(workdir=trained.workdir, tfrecords=trained.tfrecords)


def test_the_figures_are_those_of_the_written_scores(options):
    figures = json.loads(pathlib.Path(options.workdir, "metrics.json").read_text())
    scores = pd.read_csv(pathlib.Path(options.workdir, "scores.csv"))
    expected = metrics.evaluate(scores.similarity.to_numpy(), scores.label.to_numpy(), figures["threshold"])
    assert figures["pairs"] == 30 and figures["step"] == 30
    assert figures["auc"] == pytest.approx(expected["auc"]) and figures["accuracy"] == expected["accuracy"]


def test_pictures_are_written(options):
    for name in ("roc.png", "histogram.png"):
        assert pathlib.Path(options.workdir, name).read_bytes().startswith(b"\x89PNG")


def test_the_threshold_may_not_come_from_the_pairs_that_are_scored(options):
    with pytest.raises(UserError, match="choose the threshold on another"):
        evaluate(dataclasses.replace(options, split="val"))


def test_a_workdir_without_a_model_is_refused(options, tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.json"):
        evaluate(dataclasses.replace(options, workdir=str(tmp_path)))

"""Runs that begin with another run's weights."""

import dataclasses
import shutil

import numpy as np
import pytest

from fv import addons
from fv.errors import UserError
from fv.model import backbones, checkpoint_choice, model_record, restoring
from fv.training.options import TrainOptions
from fv.training.run import train
from fv.training.strategy_options import StrategyOptions
from fv.training.updates.optimizer_options import AveragingOptions, OptimizerOptions
from tests.conftest import TINY


@pytest.fixture
def following(trained, tmp_path) -> TrainOptions:
    """Options of a run with a larger image and another head whose backbone begins with `trained`'s and stands still."""
    return dataclasses.replace(
        trained,
        workdir=str(tmp_path / "following"),
        model=dataclasses.replace(TINY, image_size=48, head="sigmoid"),
        init_weights=shutil.copytree(trained.workdir, tmp_path / "first"),
        optimization=OptimizerOptions(freeze_backbone_steps=-1),
        steps=2,
    )


def backbone_of(workdir: str, checkpoint: str = checkpoint_choice.LAST) -> list[np.ndarray]:
    model, _ = restoring.load_model(workdir, model_record.load(workdir), checkpoint)
    return [weight.numpy() for weight in model.encoder.get_layer(backbones.NAME).weights]


def assert_same(ones: list[np.ndarray], others: list[np.ndarray]) -> None:
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_run_begins_with_another_s_weights_says_so_once_and_goes_on_without_it(
    following, trained, capsys
):
    train(following)
    assert (
        "first weights (last checkpoint, step 30): 7 of 8 layers loaded" in capsys.readouterr().out
    )
    assert_same(backbone_of(following.workdir), backbone_of(trained.workdir))
    shutil.rmtree(following.init_weights)
    train(dataclasses.replace(following, steps=3))
    assert "first weights" not in capsys.readouterr().out
    with pytest.raises(UserError, match="is no workdir of fv.train"):
        train(dataclasses.replace(following, workdir=following.workdir + "-new"))


def test_averages_and_lookahead_s_slow_weights_begin_with_them_too_on_every_replica(
    following, trained
):
    options = dataclasses.replace(
        following,
        init_weights=f"{following.init_weights}@best",
        compute=StrategyOptions(strategy="mirrored", virtual_devices=2),
        optimization=OptimizerOptions(
            "radam" if addons.available() else "adamw", learning_rate=0.0, weight_decay=0.0
        ),
        averaging=AveragingOptions("ema"),
        steps=6,
    )
    train(options)
    for one, other in zip(
        backbone_of(options.workdir),
        backbone_of(trained.workdir, checkpoint_choice.BEST),
        strict=True,
    ):
        if one.ndim > 1:  # BatchNorm's statistics move
            np.testing.assert_allclose(one, other, atol=1e-6)

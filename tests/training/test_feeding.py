"""What the steps are fed: synthetic batches here, the pipeline's in tests/pipeline."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.pipeline.damage import BadRecords
from fv.training import feeding, synthetic
from fv.training import strategy as strategies
from fv.training.run import train


def batches(options, strategy):
    source, _ = feeding.sources(options)
    return feeding.training_batches(strategy, source, options, 0, BadRecords(options.tfrecords))


@pytest.mark.parametrize("make", [lambda: tf.distribute.OneDeviceStrategy("CPU:0"), lambda: strategies.mirrored_cpus(2)])
def test_a_synthetic_batch_has_the_form_of_a_real_one_on_every_replica(tiny_run, make):
    strategy, made_up = make(), dataclasses.replace(tiny_run, synthetic_input=True)
    real, synthetic = (next(batches(options, strategy)) for options in (tiny_run, made_up))
    assert real.keys() == synthetic.keys()
    for name in real:
        expected, given = (strategy.experimental_local_results(batch[name]) for batch in (real, synthetic))
        assert [(part.shape, part.dtype) for part in given] == [(part.shape, part.dtype) for part in expected]


def test_made_up_pairs_are_genuine_where_their_label_says_so():
    batch = synthetic.noise(pairs=64, side=8, identities=1000, seed=0)
    same = batch["identities"][:, 0] == batch["identities"][:, 1]
    assert np.array_equal(same, batch["label"] == 1)


def test_synthetic_input_trains_without_a_shard_and_validates_nothing(tiny_run, tmp_path, capsys):
    shutil.copy(pathlib.Path(tiny_run.tfrecords, "manifest.json"), tmp_path)  # and no shard
    options = dataclasses.replace(tiny_run, tfrecords=str(tmp_path), workdir=str(tmp_path / "run"))
    with pytest.raises(UserError, match="is missing, though manifest.json lists it"):
        train(options)
    train(dataclasses.replace(options, synthetic_input=True))
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["reason"] == "finished" and summary["step"] == 30 and summary["val_auc"] is None
    assert summary["input_share"] < 0.2

"""What the steps are fed: synthetic batches here, the pipeline's in tests/pipeline."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from fv.errors import UserError
from fv.pipeline.augment import AugmentOptions
from fv.pipeline.damage import BadRecords
from fv.training import feeding, synthetic
from fv.training import strategy as strategies
from fv.training.position import Position
from fv.training.run import train


def batches(options, strategy):
    source, _ = feeding.sources(options)
    return feeding.training_batches(
        strategy, source, options, Position(), BadRecords(options.tfrecords)
    )


@pytest.mark.parametrize(
    "make", [lambda: tf.distribute.OneDeviceStrategy("CPU:0"), lambda: strategies.mirrored_cpus(2)]
)
def test_a_synthetic_batch_has_the_form_of_a_real_one_on_every_replica(tiny_run, make):
    strategy, made_up = make(), dataclasses.replace(tiny_run, synthetic_input=True)
    real, synthetic = (next(batches(options, strategy)) for options in (tiny_run, made_up))
    assert real.keys() == synthetic.keys()
    for name in real:
        expected, given = (
            strategy.experimental_local_results(batch[name]) for batch in (real, synthetic)
        )
        assert [(part.shape, part.dtype) for part in given] == [
            (part.shape, part.dtype) for part in expected
        ]


def test_a_run_holds_nothing_for_each_of_its_steps(tiny_run):
    endless = dataclasses.replace(
        tiny_run, steps=2**40
    )  # eight bytes for each are more than any machine has
    assert (
        next(batches(endless, tf.distribute.OneDeviceStrategy("CPU:0")))["images"].shape[0]
        == tiny_run.global_batch_size
    )


class Worker:
    """As much of a cluster's strategy as feeding asks of it."""

    def __init__(self, index: int, workers: int):
        self._context = tf.distribute.InputContext(workers, index, workers)

    def distribute_datasets_from_function(
        self, make: Callable[[tf.distribute.InputContext], tf.data.Dataset]
    ):
        return make(self._context)


def draw(options, worker: Worker, first_step: int, steps: int) -> list[np.ndarray]:
    """The images of a worker's next batches behind so many steps of the run."""
    source, _ = feeding.sources(options)
    place = Position().advance(first_step * options.global_batch_size)
    stream = feeding.training_batches(worker, source, options, place, BadRecords(options.tfrecords))
    return [next(stream)["images"].numpy() for _ in range(steps)]


@pytest.mark.parametrize("workers", [1, 3])
def test_however_many_workers_go_on_each_does_behind_its_share_of_the_steps_before(
    tiny_run, workers
):
    """Three of 64 pairs have 22 or 21 each, and read 4 of them a step: the sixth step is in the second epoch."""
    options = dataclasses.replace(tiny_run, global_batch_size=12)
    for index in range(workers):
        undisturbed = draw(options, Worker(index, workers), 0, 7)
        np.testing.assert_array_equal(draw(options, Worker(index, workers), 4, 3), undisturbed[4:])
        assert len({batch.tobytes() for batch in undisturbed}) == 7


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


def test_crops_may_reach_as_far_as_there_is_image_around_what_evaluation_sees(tiny_run):
    model = dataclasses.replace(tiny_run.model, crop_fraction=0.8)
    wide = dataclasses.replace(tiny_run, model=model, augmentation=AugmentOptions(max_scale=1.25))
    training, validation = feeding.sources(wide)
    assert (training.crop_fraction, validation.crop_fraction) == (1.0, 0.8)
    assert (
        next(batches(wide, tf.distribute.OneDeviceStrategy("CPU:0")))["images"].shape[2]
        == training.image_size
    )
    with pytest.raises(UserError, match="--max_scale=1.3 reaches .* room for 1.25"):
        feeding.sources(dataclasses.replace(wide, augmentation=AugmentOptions(max_scale=1.3)))


def test_validation_pairs_of_one_label_are_refused_before_anything_is_trained(tiny_run, tmp_path):
    held = json.loads(pathlib.Path(tiny_run.tfrecords, "manifest.json").read_text())
    held["splits"]["val"] |= {
        "genuine": sum(held["splits"]["val"][name] for name in ("genuine", "impostor")),
        "impostor": 0,
    }
    shutil.copytree(tiny_run.tfrecords, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(held))
    with pytest.raises(UserError, match="copy holds no impostor val pairs"):
        feeding.sources(dataclasses.replace(tiny_run, tfrecords=str(tmp_path / "copy")))

"""What the steps are fed: the pipeline's batches, themselves in tests/pipeline."""

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
from fv.training import feeding
from fv.training.position import Position


def batches(options, strategy):
    source, _ = feeding.sources(options)
    return feeding.training_batches(
        strategy, source, options, Position(), BadRecords(options.tfrecords)
    )


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


def test_crops_may_reach_as_far_as_there_is_image_around_what_evaluation_sees(tiny_run):
    model = dataclasses.replace(tiny_run.model, crop_fraction=0.8)
    wide = dataclasses.replace(
        tiny_run, model=model, augmentation=AugmentOptions(scale=(0.85, 1.25))
    )
    training, validation = feeding.sources(wide)
    assert (training.crop_fraction, validation.crop_fraction) == (1.0, 0.8)
    assert (
        next(batches(wide, tf.distribute.OneDeviceStrategy("CPU:0")))["images"].shape[2]
        == training.image_size
    )
    with pytest.raises(UserError, match="--scale=0.85,1.3 reaches .* room for 1.25"):
        feeding.sources(dataclasses.replace(wide, augmentation=AugmentOptions(scale=(0.85, 1.3))))


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

import dataclasses

import pytest

from benchmarks import scaling_model
from benchmarks.scaling_model import Assumptions
from fv.model.options import ModelOptions

GIVEN = Assumptions(
    per_host=2,
    cores=4,
    images_per_s=100.0,
    images=50,
    images_per_cpu_s=250.0,
    host_us=0.0,
    device_gbyte=1.0,
    link_gbit=0.8,
    latency_us=1000.0,
)
WEIGHTS = 10_000_000  # 40 MB of gradients


def test_the_parts_of_a_step_by_hand():
    alone = scaling_model.predict(1, WEIGHTS, GIVEN)
    assert (
        alone.compute_s == 0.5
        and alone.input_s == 0.05
        and alone.all_reduce_s == 0.0
        and alone.images_per_s == 100.0
    )
    row = scaling_model.predict(8, WEIGHTS, GIVEN)
    inside = 2 * (0.040 / 2 + 0.001)  # two hops of half the bytes at 1 GB/s
    across = 6 * (0.4 / 4 + 0.001)  # six hops of a quarter at 0.1 GB/s
    assert (
        row.hosts == 4 and row.input_s == 0.1 and row.all_reduce_s == pytest.approx(inside + across)
    )
    assert row.step_s == pytest.approx(0.5 + inside + across) and row.limit == "all-reduce"
    assert row.images_per_s == pytest.approx(400 / row.step_s)


def test_each_limit_is_moved_by_its_flag():
    row = scaling_model.predict(8, WEIGHTS, dataclasses.replace(GIVEN, accumulate_steps=16))
    assert row.limit == "compute" and row.images == 16 * 400
    slow = dataclasses.replace(GIVEN, images_per_cpu_s=20.0)
    assert scaling_model.predict(1, WEIGHTS, slow).efficiency == pytest.approx(0.8)
    assert scaling_model.predict(1, WEIGHTS, slow).limit == "input"
    assert (
        scaling_model.predict(1, WEIGHTS, dataclasses.replace(slow, images_per_cpu_s=30.0)).limit
        == "compute"
    )


def test_a_host_decodes_no_more_than_the_training_process_takes_over():
    busy = dataclasses.replace(GIVEN, host_us=10_000.0)
    assert (
        scaling_model.host_images_per_s(busy) == 100.0
        and scaling_model.host_images_per_s(GIVEN) == 1000.0
    )


def test_weights_are_counted_from_the_model():
    tiny = dataclasses.replace(
        GIVEN, model=ModelOptions("tiny", image_size=32, embedding_size=16), identities=100
    )
    convolutions = 9 * (3 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64)
    assert scaling_model.count_weights(tiny) == convolutions + 64 * 16 + 100 * 16
    assert (
        "of gradients"
        in scaling_model.lines([scaling_model.predict(1, WEIGHTS, tiny)], WEIGHTS, tiny)[0]
    )

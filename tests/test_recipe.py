"""Tests of fv.recipe."""

import pathlib

import cv2
import numpy as np
import pytest
from absl import flags

from fv import manifest, options, recipe, record
from fv.training.options import TrainOptions
from tests.test_configs import resolved

SIDE = 50


def data(people: int = 400, genuine: int = 5000, images: int = 4800) -> manifest.Manifest:
    names = tuple(f"person_{number:05}" for number in range(people))
    train = manifest.Split(genuine, genuine, images, names, ())
    return manifest.Manifest(seed=0, flags="", splits={"train": train})


def parse(chosen: dict[str, object]) -> TrainOptions:
    values = flags.FlagValues()
    options.define_flags(TrainOptions, values)
    given = [f"--{name}={options.to_text(value)}" for name, value in chosen.items()]
    values(["fv-train", *given, "--tfrecords=DIR", "--workdir=DIR"])
    return options.from_flags(TrainOptions, values)


def choose(backbone: str = recipe.CONV8, **changes) -> dict[str, object]:
    network = recipe.choose_network(backbone, changes.get("gpu", False), 160)
    choices = dict(crop=1.0, steps=700, gpu=False, seed=0)
    return recipe.flags(changes.pop("data", data()), network, **choices | changes)


def test_the_demonstration_trains_as_configs_quickstart_flags(monkeypatch):
    monkeypatch.chdir(pathlib.Path(__file__).parent.parent)
    chosen = choose(recipe.INCEPTION, steps=180)
    assert parse(chosen) == resolved("quickstart.flags")


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("steps", [12, 180, 5000])
@pytest.mark.parametrize("backbone", [recipe.CONV8, recipe.INCEPTION])
def test_fv_train_takes_the_flags_of_every_recipe(backbone, steps, gpu):
    chosen = parse(choose(backbone, steps=steps, gpu=gpu, crop=0.6))
    assert (chosen.steps, chosen.model.backbone) == (steps, backbone)
    assert chosen.compute.precision == ("mixed_bfloat16" if gpu else "float32")


def test_inception_sees_large_faces_whole_on_a_gpu_only():
    assert recipe.choose_network(recipe.INCEPTION, True, 160)[1:] == (139, 128)
    assert recipe.choose_network(recipe.INCEPTION, True, 80)[1:] == (75, 32)
    assert recipe.choose_network(recipe.INCEPTION, False, 160)[1:] == (75, 32)


def test_a_batch_holds_at_most_half_of_the_genuine_pairs():
    assert choose(data=data(people=2, genuine=10))["global_batch_size"] == 5


def test_the_softmax_samples_among_many_people():
    assert "softmax_sample" not in choose(data=data(people=20_000))
    assert choose(data=data(people=20_001))["softmax_sample"] == 8192


def draw_pairs(people: int, inner: float, rng: np.random.Generator) -> list[record.Pair]:
    """Pairs of images whose pattern in the centre square of `inner` is the person's.

    Around it, each image has noise of its own.
    """
    start = round((1 - inner) / 2 * SIDE)
    pairs = []
    for person in range(people):
        pattern = rng.integers(0, 256, (10, 10)).astype(np.uint8)
        face = cv2.resize(pattern, (SIDE - 2 * start, SIDE - 2 * start))
        images = []
        for _ in range(2):
            image = cv2.resize(rng.integers(0, 256, (10, 10)).astype(np.uint8), (SIDE, SIDE))
            noisy = face.astype(int) + rng.normal(0, 150, face.shape)
            image[start : SIDE - start, start : SIDE - start] = noisy.clip(0, 255)
            images.append(cv2.imencode(".jpg", image)[1].tobytes())
        name = str(person).encode()
        pairs.append(record.Pair((images[0], images[1]), record.GENUINE, (name, name, b"", b"")))
    return pairs


@pytest.mark.parametrize("inner", [1.0, 0.6])
def test_the_crop_that_holds_the_person_tells_people_apart_best(inner):
    aucs = recipe.measure_crops(draw_pairs(60, inner, np.random.default_rng(0)))
    assert max(aucs, key=aucs.get) == inner and aucs[inner] > 0.7


def test_pixels_that_say_nothing_have_an_auc_of_a_half():
    rng = np.random.default_rng(1)
    images = draw_pairs(120, 1.0, rng)
    shuffled = [
        record.Pair((a.images[0], b.images[1]), record.GENUINE, a.names)
        for a, b in zip(images, images[1:] + images[:1], strict=True)
    ]
    assert all(abs(auc - 0.5) < 0.12 for auc in recipe.measure_crops(shuffled).values())


def test_no_crop_is_measured_on_few_people():
    assert recipe.measure_crops(draw_pairs(19, 1.0, np.random.default_rng(0))) == {}

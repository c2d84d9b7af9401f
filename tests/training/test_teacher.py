import dataclasses
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from fv import manifest
from fv.errors import UserError
from fv.model import checkpoint_files, model_record
from fv.model.siamese import Siamese
from fv.training import teacher as teachers
from fv.training.options import TeacherOptions
from fv.training.run import train
from fv.training.teacher import Teacher
from tests.conftest import TINY
from tests.training.stepping import one_device, trainer, two_replicas
from tests.training.test_step import SGD, STEPS

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), dtype=np.uint8)


def restored(workdir: str) -> Siamese:
    return checkpoint_files.load_model(workdir, model_record.load(workdir))[0]


def people(shards) -> tuple[str, ...]:
    return manifest.load(str(shards)).split("train").identities


def test_the_loss_is_the_weighted_mean_of_one_less_the_cosine():
    east, north = [1.0, 0.0], [0.0, 1.0]
    taught = tf.constant([[east, north], [east, east]])
    embeddings = tf.constant([[east, north], [north, [-1.0, 0.0]]])
    np.testing.assert_allclose(
        Teacher(None, 10.0, None).pair_losses(embeddings, taught), [0.0, 10.0 * (1.0 + 2.0) / 2.0]
    )


@pytest.fixture
def experienced(trained, shards, tmp_path) -> Callable[..., str]:
    """A copy of the trained workdir whose weights met these people before."""

    def copy(*met: str) -> str:
        folder = shutil.copytree(trained.workdir, tmp_path / "teacher")
        record = model_record.inherit(
            model_record.load(trained.workdir), model_record.describe(TINY, met)
        )
        model_record.save(record, str(folder))
        return str(folder)

    return copy


def test_a_student_embeds_as_its_teacher_and_its_record_holds_both_people(
    trained, experienced, tmp_path
):
    student = dataclasses.replace(
        trained,
        workdir=str(tmp_path / "student"),
        seed=9,
        teaching=TeacherOptions(experienced("Ada", "Alan"), teacher_weight=50.0),
    )
    train(student)
    met = model_record.load(student.workdir).trained_on(["Ada", "Grace", "Alan"])
    assert met == ["Ada", "Alan"]
    one, other = (
        restored(folder).embed_pairs(PIXELS, training=False)
        for folder in (trained.workdir, student.workdir)
    )
    assert np.mean(np.sum(one * other, axis=-1)) > 0.6  # of models from two seeds it is about 0


@pytest.mark.slow
def test_one_replica_and_two_agree_with_a_teacher(trained, shards):
    found = [
        trainer(
            shards,
            strategy(),
            SGD,
            steps=STEPS,
            sync=True,
            augment=True,
            teacher=trained.workdir,
        ).run(STEPS)
        for strategy in (one_device, two_replicas)
    ]
    np.testing.assert_allclose(*found, rtol=1e-4)


def test_a_teacher_sees_images_at_its_own_side(trained, shards):
    teacher = teachers.load(TeacherOptions(trained.workdir), TINY.embedding_size, people(shards))
    larger = np.repeat(np.repeat(PIXELS, 2, axis=2), 2, axis=3)
    np.testing.assert_allclose(teacher.embed(larger), teacher.embed(PIXELS), atol=0.02)


def test_a_teacher_of_another_embedding_size_is_refused_with_the_flag(trained, shards):
    with pytest.raises(UserError, match="embeddings of 16 numbers: give --embedding_size=16"):
        teachers.load(TeacherOptions(trained.workdir), 8, people(shards))


def test_a_teacher_of_people_outside_the_training_split_is_refused(trained, shards):
    with pytest.raises(UserError, match="trained on 2 people who are not trained on here"):
        teachers.load(TeacherOptions(trained.workdir), TINY.embedding_size, people(shards)[2:])


def test_earlier_people_of_a_teacher_do_not_make_up_for_missing_ones(experienced, shards):
    here = [*people(shards)[2:], "Ada", "Alan"]
    with pytest.raises(UserError, match="trained on 2 people who are not trained on here"):
        teachers.load(TeacherOptions(experienced("Ada", "Alan")), TINY.embedding_size, here)


def test_a_teacher_is_not_refused_for_its_earlier_people(experienced, shards):
    here = [*people(shards), "Ada", "Alan"]
    assert teachers.load(TeacherOptions(experienced("Ada", "Alan")), TINY.embedding_size, here)


@pytest.mark.slow
def test_a_students_record_keeps_the_earlier_people_of_its_teacher(trained, experienced, tmp_path):
    workdir = str(tmp_path / "student")
    student = dataclasses.replace(
        trained, workdir=workdir, steps=1, teaching=TeacherOptions(experienced("Ada", "Alan"))
    )
    train(student)
    assert model_record.load(workdir).trained_on(["Ada", "Grace", "Alan"]) == ["Ada", "Alan"]
    train(dataclasses.replace(student, steps=2, teaching=TeacherOptions()))
    assert model_record.load(workdir).trained_on(["Ada", "Grace", "Alan"]) == ["Ada", "Alan"]

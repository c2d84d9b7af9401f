import dataclasses
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from fv import embedding_files, manifest, onnx_encoder
from fv.errors import UserError
from fv.evaluation import trained_model
from fv.model import checkpoint_files, model_record
from fv.model.siamese import Siamese
from fv.pipeline import augment, input_pipeline
from fv.training import feeding
from fv.training import teacher as teachers
from fv.training.options import TeacherOptions
from fv.training.run import train
from fv.training.teacher import ExternalTeacher, Teacher
from tests.conftest import TINY
from tests.test_embed import write_onnx
from tests.training.stepping import one_device, trainer, two_replicas
from tests.training.test_step import SGD, STEPS

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), dtype=np.uint8)
SIZE = TINY.embedding_size


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
    teacher = teachers.load_trained(TeacherOptions(trained.workdir), SIZE, people(shards))
    larger = np.repeat(np.repeat(PIXELS, 2, axis=2), 2, axis=3)
    np.testing.assert_allclose(teacher.embed(larger), teacher.embed(PIXELS), atol=0.02)


def test_a_teacher_of_another_embedding_size_is_refused_with_the_flag(trained, shards):
    with pytest.raises(UserError, match="embeddings of 16 numbers: give --embedding_size=16"):
        teachers.load_trained(TeacherOptions(trained.workdir), 8, people(shards))


def test_a_teacher_of_people_outside_the_training_split_is_refused(trained, shards):
    with pytest.raises(UserError, match="trained on 2 people who are not trained on here"):
        teachers.load_trained(TeacherOptions(trained.workdir), SIZE, people(shards)[2:])


def test_earlier_people_of_a_teacher_do_not_make_up_for_missing_ones(experienced, shards):
    here = [*people(shards)[2:], "Ada", "Alan"]
    with pytest.raises(UserError, match="trained on 2 people who are not trained on here"):
        teachers.load_trained(TeacherOptions(experienced("Ada", "Alan")), SIZE, here)


def test_a_teacher_is_not_refused_for_its_earlier_people(experienced, shards):
    here = [*people(shards), "Ada", "Alan"]
    assert teachers.load_trained(TeacherOptions(experienced("Ada", "Alan")), SIZE, here)


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


@pytest.mark.parametrize("size", [4, 5, 9])
def test_an_external_teacher_s_loss_is_one_less_the_cosine_of_centred_embeddings(size):
    taught = np.random.default_rng(0).normal(size=(3, 2, size)).astype(np.float32) + 2.0
    taught[2, 1] = 0.0  # not known
    centred = taught - taught.reshape(6, size)[:5].mean(axis=0)
    student = centred @ teachers._fit(size, 5)
    student /= np.linalg.norm(student, axis=-1, keepdims=True)
    losses = ExternalTeacher(10.0).pair_losses(tf.constant(-student), tf.constant(taught))
    np.testing.assert_allclose(losses, [20.0, 20.0, 10.0], rtol=1e-4)
    found = ExternalTeacher(10.0).pair_losses(tf.constant(student), tf.constant(taught))
    np.testing.assert_allclose(found, 0.0, atol=1e-4)


@pytest.mark.parametrize("decoder", ["host", "tensorflow"])
def test_embeddings_of_a_file_are_those_of_the_images_of_a_batch(
    trained, shards, tmp_path, decoder
):
    paths = teachers.read_paths(str(shards), manifest.load(str(shards)).split("train"))
    path = write_embeddings(tmp_path / "all.npz", list(paths))
    options = dataclasses.replace(
        trained,
        teaching=TeacherOptions(teacher_embeddings=path),
        input=dataclasses.replace(trained.input, decoder=decoder),
    )
    source = feeding.training_source(options, manifest.load(str(shards)))
    teacher = teachers.load_external(options.teaching, source.paths)
    plain = dataclasses.replace(source, paths={})
    given = dict(batch_size=4, seed=0, shuffle_buffer=8, options=options.input)
    one, other = (
        next(iter(input_pipeline.training_batches(each, **given))) for each in (source, plain)
    )
    identities, taught = teacher.teach(one, one["images"])
    np.testing.assert_array_equal(identities, other["identities"])
    np.testing.assert_array_equal(one["images"], other["images"])
    rows = one["identities"].numpy().ravel()
    expected = embedding_files.read(path).vectors[rows]
    np.testing.assert_allclose(taught.numpy().reshape(-1, 7), expected)


def test_a_run_with_an_external_teacher_says_so_in_its_record(trained, shards, tmp_path):
    paths = teachers.read_paths(str(shards), manifest.load(str(shards)).split("train"))
    path = write_embeddings(tmp_path / "all.npz", list(paths)[1:])  # one is not known
    teaching = TeacherOptions(teacher_embeddings=path)
    workdir = str(tmp_path / "student")
    train(dataclasses.replace(trained, workdir=workdir, steps=2, teaching=teaching))
    assert model_record.load(workdir).external_teachers == ("all.npz",)
    note = trained_model.note_external_teachers(model_record.load(workdir))
    assert note.startswith("The model imitated all.npz. The people that this teacher")


def test_paths_of_damaged_records_are_passed_over_where_these_may_be_skipped(
    trained, shards, tmp_path
):
    folder = shutil.copytree(shards, tmp_path / "broken")
    split = manifest.load(str(shards)).split("train")
    whole = teachers.read_paths(str(shards), split)
    shard = folder / split.shards[0].name
    data = bytearray(shard.read_bytes())
    data[100] ^= 1  # of the first record
    shard.write_bytes(data)
    _, *sound = teachers._list_images(str(shards), split)
    options = dataclasses.replace(
        trained,
        tfrecords=str(folder),
        teaching=TeacherOptions(teacher_embeddings="unread"),
        input=dataclasses.replace(trained.input, max_bad_records=3),
    )
    found = feeding.training_source(options, manifest.read(str(folder))).paths
    assert found == {path: whole[path] for pair in sound for path, _ in pair}
    shutil.rmtree(folder)
    with pytest.raises(UserError, match="are damaged"):
        teachers.read_paths(str(folder), split, skip_damaged=True)


def test_an_onnx_teacher_embeds_the_augmented_pixels(tmp_path):
    network = onnx_encoder.OnnxEncoder(write_onnx(tmp_path / "net.onnx", 16))
    batch = {"identities": tf.zeros((4, 2), tf.int32)}
    images = tf.cast(PIXELS, tf.float32)
    _, taught = tf.function(ExternalTeacher(1.0, network).teach)(batch, images)
    expected = network(augment.resize(images, 16).numpy().reshape(-1, 16, 16, 3))
    np.testing.assert_allclose(taught.numpy().reshape(-1, 3), expected, atol=1e-5)


class Recorder(ExternalTeacher):
    """A teacher that keeps the images it embeds."""

    def teach(self, batch, images):
        self.images = tf.cast(images, tf.float32)
        return batch["identities"], tf.reduce_mean(self.images, axis=(2, 3))


@pytest.mark.parametrize("head", ["softmax", "n_pairs", "sigmoid"])
def test_blended_pairs_are_taught_and_leave_the_heads_loss(shards, head):
    held = dataclasses.replace(TINY, head=head, second_head="none")
    gradients = {}
    for share, weight in ((1.0, 0.0), (1.0, 1.0), (0.0, 0.0)):
        made = trainer(shards, model=held)
        teacher = made.step._teacher = Recorder(weight)
        made.step._mixup = share
        batch = next(made.batches)
        loss, found = made.step._compute_gradients(batch, tf.constant(0), 0)
        assert np.isfinite(loss)
        gradients[share, weight] = [np.zeros(1) if g is None else np.asarray(g) for g in found]
        blended = np.any(teacher.images != tf.cast(batch["images"], tf.float32))
        assert blended == bool(share)
    sizes = {key: sum(np.abs(each).sum() for each in found) for key, found in gradients.items()}
    assert sizes[1.0, 0.0] == 0.0
    assert np.isfinite(sizes[1.0, 1.0]) and sizes[1.0, 1.0] > 0.0
    assert np.isfinite(sizes[0.0, 0.0]) and sizes[0.0, 0.0] > 0.0


def test_a_run_with_blended_pairs_trains(trained, tmp_path):
    teaching = TeacherOptions(trained.workdir, teacher_mixup=0.5)
    workdir = str(tmp_path / "student")
    train(dataclasses.replace(trained, workdir=workdir, steps=2, teaching=teaching))
    assert model_record.load(workdir)


def test_teachers_that_cannot_be_used_are_refused(trained, shards, tmp_path):
    path = write_embeddings(tmp_path / "all.npz", ["other/1.jpg"])
    held = manifest.load(str(shards))
    both = TeacherOptions(trained.workdir, teacher_embeddings=path)
    with pytest.raises(UserError, match="--teacher_onnx: give one of them"):
        train(dataclasses.replace(trained, teaching=both))
    alone = TeacherOptions(teacher_embeddings=path, teacher_mixup=0.5)
    with pytest.raises(UserError, match="--teacher_mixup=0.5 needs a teacher that embeds"):
        train(dataclasses.replace(trained, teaching=alone))
    with pytest.raises(UserError, match=r"all\.npz has no embedding of a training image, such as"):
        teachers.load_external(
            TeacherOptions(teacher_embeddings=path),
            teachers.read_paths(str(shards), held.split("train")),
        )


def write_embeddings(path, names: list[str]) -> str:
    vectors = np.random.default_rng(1).normal(size=(len(names), 7))
    np.savez(path, path=names, embedding=vectors)
    return str(path)

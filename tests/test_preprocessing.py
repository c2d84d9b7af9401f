"""Preprocessing is recorded at conversion, carried by the model, applied to whole files."""

import csv
import dataclasses
import io
import json
import pathlib
import shlex
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import fv
from fv import image_ops, manifest, mining, whiten
from fv.conversion import convert, storage
from fv.conversion import options as options_module
from fv.errors import UserError
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import pair_sources
from fv.mining import MineOptions
from fv.model import initial_weights, model_record
from fv.preprocessing import UNKNOWN, Preprocessing
from fv.serving import contract, decoding, versions
from fv.serving import export as exports
from fv.serving.export import ExportOptions, export
from fv.training import teacher as teachers
from fv.training.options import TrainOptions
from fv.training.run import train
from fv.whiten import WhitenOptions
from tests import samples
from tests.conftest import TINY
from tests.serving import loading

pytestmark = pytest.mark.usefixtures("blank_pictures")

CUT = Preprocessing(crop_fraction=0.6, store_size=64)
WHOLE = Preprocessing()
SIDE = 150  # pixels of a photograph's shorter side; the face is in the middle 90
IMAGES = 4  # of each person


def photograph(person: int, image: int) -> Image.Image:
    """A face amid surroundings that differ from image to image and do not depend on the person."""
    face = Image.open(io.BytesIO(samples.image_bytes(person, image, 90)))
    around = np.random.default_rng((person, image)).integers(0, 256, (3, 4, 3), np.uint8)
    made = Image.fromarray(around).resize((SIDE + 50, SIDE), Image.Resampling.BICUBIC)
    made.paste(face, ((SIDE + 50 - 90) // 2, (SIDE - 90) // 2))
    return made


def encode(picture: Image.Image, form: str = "JPEG", **options) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, form, **options)
    return encoded.getvalue()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> pathlib.Path:
    """18 people, each a folder of photographs."""
    folder = tmp_path_factory.mktemp("photographs")
    for person in range(18):
        (folder / f"p{person:02d}").mkdir()
        for image in range(IMAGES):
            (folder / f"p{person:02d}" / f"{image}.jpg").write_bytes(
                encode(photograph(person, image), quality=95)
            )
    return folder


@pytest.fixture(scope="module")
def to_shards(photographs, tmp_path_factory):
    """Converts the photographs by these flags; the same people are in the same splits each time."""

    def make(**flags) -> str:
        folder = str(tmp_path_factory.mktemp("shards"))
        shares = dict(val_fraction=0.25, test_fraction=0.25, workers=1, shards=1)
        convert.convert(
            options_module.ConvertOptions(images=str(photographs), output=folder, **shares, **flags)
        )
        return folder

    return make


@pytest.fixture(scope="module")
def cut(to_shards) -> str:
    return to_shards(crop="0.6", store_size=64)


@pytest.fixture(scope="module")
def whole(to_shards) -> str:
    return to_shards()


@pytest.fixture(scope="module")
def run(cut, tiny_run, tmp_path_factory) -> TrainOptions:
    """A model that was trained on the cut images, and evaluated."""
    model = dataclasses.replace(TINY, crop_fraction=0.9)
    workdir = str(tmp_path_factory.mktemp("cut"))
    options = dataclasses.replace(tiny_run, tfrecords=cut, workdir=workdir, model=model, steps=40)
    train(options)
    evaluate(EvaluateOptions(workdir=workdir, tfrecords=cut, baselines=False, bootstrap=0))
    return options


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> str:
    output = tmp_path_factory.mktemp("cut_export")
    export(ExportOptions(workdir=run.workdir, output=str(output), merge_images=0))
    return str(output / "1")


def scores_of(folder: str) -> pd.DataFrame:
    return pd.read_csv(pathlib.Path(folder, "scores.csv"))


def test_the_converter_writes_the_record_and_training_carries_it(cut, run):
    assert manifest.read(cut).preprocessing == CUT
    assert model_record.load(run.workdir).preprocessing == CUT


def test_an_export_answers_on_whole_files_as_the_evaluator_on_stored_crops(
    run, exported, photographs
):
    scores = scores_of(run.workdir)
    ends = [
        [(photographs / path).read_bytes() for path in scores[name]]
        for name in ("image_a", "image_b")
    ]
    served = loading.load(exported)
    found = served.signatures["serving_default"](
        image_a=tf.constant(ends[0]), image_b=tf.constant(ends[1])
    )
    np.testing.assert_allclose(found["similarity"], scores["similarity"], atol=0.01)


def test_every_kind_of_file_and_pixels_go_through_the_same_steps(exported):
    picture = Image.open(io.BytesIO(encode(photograph(3, 1), quality=95)))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        encode(picture, "PNG"),
        encode(picture, "BMP"),
        encode(picture.transpose(Image.Transpose.ROTATE_90), quality=100, subsampling=0, exif=exif),
    ]
    served = loading.load(exported)
    found = [
        served.signatures["embed"](image=tf.constant([data]))["embedding"][0] for data in files
    ]
    pixels = tf.constant(np.asarray(picture)[np.newaxis])
    wanted = served.signatures["embed_pixels"](image=pixels)["embedding"][0]
    assert [float(np.dot(one, wanted)) > 0.999 for one in found] == [True] * 3
    cut_by_hand = tf.constant(np.asarray(picture)[np.newaxis, 30:120, 55:145])
    assert (
        np.dot(served.signatures["embed_pixels"](image=cut_by_hand)["embedding"][0], wanted) < 0.999
    )


def test_a_list_over_whole_files_scores_as_the_shards(run, cut, photographs, tmp_path):
    scores, path = scores_of(run.workdir), str(tmp_path / "pairs.csv")
    scores[["image_a", "image_b", "label"]].to_csv(path, index=False)
    chosen = dict(workdir=run.workdir, threshold_tfrecords=cut, baselines=False, bootstrap=0)
    evaluate(
        EvaluateOptions(images=str(photographs), pairs_csv=path, output=str(tmp_path), **chosen)
    )
    np.testing.assert_allclose(
        scores_of(str(tmp_path))["similarity"], scores["similarity"], atol=1e-6
    )


def test_flags_override_the_model_s_record_each_by_itself(run):
    record = model_record.load(run.workdir)
    options = EvaluateOptions(workdir=run.workdir, images="faces", pairs_csv="pairs.csv", folds=5)
    treated = [
        pair_sources.with_training_crop(dataclasses.replace(options, **flags), record.preprocessing)
        for flags in ({}, {"crop": "none"}, {"store_size": 80}, {"crop": "0.5", "store_size": 80})
    ]
    assert [(one.crop, one.store_size) for one in treated] == [
        ("0.6", 64),
        ("none", 64),
        ("0.6", 80),
        ("0.5", 80),
    ]


def test_shards_cut_otherwise_are_refused_unless_the_flags_name_them(run, whole):
    options = EvaluateOptions(workdir=run.workdir, tfrecords=whole)
    record = model_record.load(run.workdir)
    with pytest.raises(
        UserError, match=r"--crop=0\.6 --store_size=64, but those of .* with --crop=none"
    ):
        pair_sources.read_pairs(options, record)
    with pytest.raises(UserError, match="confirm these by --crop=none"):
        pair_sources.read_pairs(dataclasses.replace(options, crop="0.6", store_size=64), record)
    assert len(pair_sources.read_pairs(dataclasses.replace(options, crop="none"), record).scored)


def test_shards_of_other_boxes_are_confirmed_by_the_flags_that_are_advised(
    run, to_shards, photographs, tmp_path
):
    boxes = tmp_path / "my boxes.csv"
    names = sorted(str(path.relative_to(photographs)) for path in photographs.glob("*/*.jpg"))
    boxes.write_text(
        "\n".join(["path,left,top,width,height", *(f"{name},0,0,90,90" for name in names)])
    )
    held = to_shards(crop=str(boxes), store_size=64)
    options = EvaluateOptions(workdir=run.workdir, tfrecords=held)
    record = model_record.load(run.workdir)
    with pytest.raises(UserError, match="confirm these by ") as refused:
        pair_sources.read_pairs(options, record)
    crop, size = shlex.split(str(refused.value).rpartition(" by ")[2])
    assert (crop, size) == (f"--crop={boxes}", "--store_size=64")
    assert len(
        pair_sources.read_pairs(
            dataclasses.replace(options, crop=str(boxes), store_size=64), record
        ).scored
    )


def test_everything_that_reads_shards_for_a_model_refuses_other_crops(run, whole, tmp_path):
    said = r"was trained on images stored with --crop=0\.6"
    with pytest.raises(UserError, match=f"{said}.*another --workdir"):
        train(dataclasses.replace(run, tfrecords=whole, steps=41))
    with pytest.raises(UserError, match=said):
        export(ExportOptions(workdir=run.workdir, output=str(tmp_path / "export"), tfrecords=whole))
    with pytest.raises(UserError, match=said):
        whiten.whiten(WhitenOptions(run.workdir, whole, str(tmp_path / "white")))
    with pytest.raises(UserError, match=f"{said}.*take a model that was trained on that data set"):
        mining.mine(MineOptions(whole, run.workdir, str(tmp_path / "mined")))
    teaching = dataclasses.replace(run.teaching, teacher=run.workdir)
    with pytest.raises(UserError, match=f"--teacher=.* {said}"):
        train(
            dataclasses.replace(
                run, tfrecords=whole, workdir=str(tmp_path / "taught"), teaching=teaching
            )
        )


def test_a_crop_at_conversion_and_one_in_the_model_show_a_teacher_the_same():
    taught = dataclasses.replace(model_record.describe(TINY, ("Ada",)), preprocessing=CUT)
    teachers.check_images(taught, "teacher", dataclasses.replace(TINY, crop_fraction=0.6), WHOLE)
    with pytest.raises(UserError, match="converted as the teacher's"):
        teachers.check_images(taught, "teacher", TINY, WHOLE)


def test_the_record_goes_from_an_export_and_a_workdir_to_first_weights(run, exported):
    for where in (run.workdir, exported):
        assert initial_weights.find_weights(where, run.model).record.preprocessing == CUT
    other = model_record.describe(TINY, ("Ada",), WHOLE)
    assert model_record.inherit(other, model_record.load(run.workdir)).preprocessing == WHOLE


def test_the_card_says_what_the_graph_does_to_whole_images(exported):
    folder = pathlib.Path(exported)
    assert json.loads((folder / "model_card.json").read_text())["preprocessing"] == CUT.to_json()
    text = (folder / "model_card.md").read_text()
    assert "Give whole images" in text and "centre square of 0.6" in text and "64 pixels" in text


def test_a_model_of_boxes_says_that_images_have_to_be_cut_already(exported, tmp_path, capsys):
    boxes = Preprocessing(boxes="ab" * 32, store_size=64)
    held = dataclasses.replace(model_record.describe(TINY, ("Ada",)), preprocessing=boxes)
    exports._describe_input(ExportOptions(workdir="run", output="export"), held)
    folder = shutil.copytree(exported, tmp_path / "boxes")
    (folder / versions.FILE_NAME).unlink()
    card = json.loads((folder / contract.CARD).read_text())
    (folder / contract.CARD).write_text(json.dumps(card | {"preprocessing": boxes.to_json()}))
    fv.Verifier(str(folder))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fv: note")]
    assert [
        line.endswith("give images that are already cut to the face's box") for line in said
    ] == [True, True]
    text = contract.describe_input(dataclasses.asdict(TINY), boxes.to_json())
    assert "already cut to the face's box" in text and "64 pixels" in text


def test_a_list_for_a_model_of_boxes_needs_boxes_of_its_own(tmp_path):
    record = dataclasses.replace(
        model_record.describe(TINY, ("Ada",)), preprocessing=Preprocessing(boxes=UNKNOWN)
    )
    options = EvaluateOptions(workdir="run", images="faces", pairs_csv="pairs.csv", folds=5)
    with pytest.raises(
        UserError,
        match="run was trained on images cut to boxes: give --crop=CSV with the boxes of faces",
    ):
        pair_sources.with_training_crop(options, record.preprocessing)
    given = dataclasses.replace(options, crop="boxes.csv", store_size=80)
    assert pair_sources.with_training_crop(given, record.preprocessing) == given


@pytest.mark.parametrize(
    "size", [(250, 250), (173, 251), (640, 480), (97, 133), (64, 65), (40, 30)]
)
@pytest.mark.parametrize(
    "preprocessing",
    [CUT, Preprocessing(store_size=50), Preprocessing(crop_fraction=0.35, store_size=33)],
)
def test_the_graph_s_averages_are_the_converter_s_within_one_level(size, preprocessing):
    noise = np.random.default_rng(size).integers(0, 256, (size[1], size[0], 3), np.uint8)
    wanted = storage.cut_and_resize(noise, preprocessing.store_size, preprocessing.crop_fraction)
    top, left, height, width = image_ops._stored_window(
        tf.constant(noise.shape), preprocessing.crop_fraction
    ).numpy()
    part = tf.constant(noise[top : top + height, left : left + width])
    found = image_ops._average(part, preprocessing.store_size).numpy()
    assert found.shape == wanted.shape and np.abs(found - wanted.astype(int)).max() <= 1


def test_a_graph_that_cuts_otherwise_than_the_converter_is_not_exported(monkeypatch):
    rules = decoding.DecodingRules(32, 1.0, 1_000_000, CUT)
    exports._check_preprocessing(rules)
    window = image_ops._stored_window
    monkeypatch.setattr(
        image_ops, "_stored_window", lambda *given: window(*given) + tf.constant([1, 1, 0, 0])
    )
    with pytest.raises(UserError, match="unlike a stored one"):
        exports._check_preprocessing(rules)


def test_boxes_are_recorded_by_the_digest_of_their_csv(photographs, tmp_path):
    path = tmp_path / "boxes.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "left", "top", "width", "height"])
        rows.writerow(["p00/0.jpg", 0, 0, 9, 9])
    chosen = options_module.ConvertOptions(images=str(photographs), crop=str(path), store_size=64)
    first = options_module.preprocessing_of(chosen)
    path.write_text(path.read_text() + "p00/1.jpg,0,0,9,9\n")
    second = options_module.preprocessing_of(chosen)
    assert first.boxes != second.boxes
    assert first.same_crop(second) and not first.same_crop(WHOLE)


def test_boxes_of_other_images_fit_behind_a_warning(tmp_path, capsys):
    first, second = (Preprocessing(boxes=digit * 64, store_size=80) for digit in "ab")
    record = dataclasses.replace(model_record.describe(TINY, ("Ada",)), preprocessing=first)
    model_record.check_images(record, "run", first, "shards", "")
    assert capsys.readouterr().err == ""
    model_record.check_images(record, "run", second, "shards", "")
    assert "the boxes of shards are of another CSV than those of run" in capsys.readouterr().err


def test_a_record_with_a_step_of_a_newer_fv_is_refused_by_name(cut, run, tmp_path):
    for source, name in ((cut, "manifest.json"), (run.workdir, "model.json")):
        fields = json.loads(pathlib.Path(source, name).read_text())
        fields["preprocessing"]["template"] = "arcface"
        (tmp_path / name).write_text(json.dumps(fields))
    for read in (manifest.read, model_record.load):
        with pytest.raises(
            UserError, match=r"does not know \(template\): use the fv that wrote it"
        ):
            read(str(tmp_path))
    with pytest.raises(UserError, match="resampling=lanczos"):
        Preprocessing.from_json({"resampling": "lanczos"}, "model.json")


@pytest.mark.parametrize(
    ("held", "wanted", "answer"),
    [
        (CUT, dataclasses.replace(CUT, jpeg_quality=50), True),
        (dataclasses.replace(CUT, store_size=100), CUT, True),
        (dataclasses.replace(CUT, store_size=30), CUT, False),
        (dataclasses.replace(CUT, crop_fraction=0.7), CUT, False),
        (WHOLE, Preprocessing(crop_fraction=1.0, store_size=64), True),
        (WHOLE, Preprocessing(store_size=31), False),
    ],
)
def test_images_fit_by_equal_crops_and_by_sizes_that_are_not_enlarged(held, wanted, answer):
    assert held.fits(wanted, image_size=32, crop_fraction=1.0) is answer

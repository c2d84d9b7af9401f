import dataclasses
import html
import json
import pathlib
import re
import runpy
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from fv import cli, files, manifest, metrics
from fv.conversion import storage, verification_sets
from fv.errors import UserError
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import pairs as pairs_module
from fv.evaluation import scores as scores_module
from fv.model import checkpoint_files, model_record
from fv.model.siamese import PairScorer
from fv.pipeline import input_pipeline
from fv.pipeline.input_pipeline import PairSource
from tests import samples
from tests.evaluation.test_protocols import insightface_reference

pytestmark = pytest.mark.usefixtures("blank_pictures")

STRANGERS = range(20, 28)  # person_020 and on: in no shard


@pytest.fixture
def options(trained) -> EvaluateOptions:
    return EvaluateOptions(workdir=trained.workdir, tfrecords=trained.tfrecords)


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """Images of strangers, and a list of two folds over them that share no person."""
    folder = tmp_path_factory.mktemp("listed")
    for person in STRANGERS:
        name = f"S{person}"
        (folder / "images" / name).mkdir(parents=True)
        for image in (1, 2, 3):
            (folder / "images" / name / f"{name}_{image:04d}.jpg").write_bytes(
                samples.image_bytes(person, image)
            )
    lines = ["2\t6"]
    for start in (20, 24):
        lines += [f"S{start + at % 4}\t{1 + at // 4}\t3" for at in range(6)]
        lines += [
            f"S{start + at % 4}\t{1 + at % 3}\tS{start + (at + 1) % 4}\t{1 + at // 2}"
            for at in range(6)
        ]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def k_fold(trained, listed, tmp_path) -> EvaluateOptions:
    return EvaluateOptions(
        workdir=trained.workdir,
        images=str(listed / "images"),
        pairs_file=str(listed / "pairs.txt"),
        output=str(tmp_path / "out"),
        baselines=False,
        bootstrap=20,
    )


def figures_of(folder) -> dict:
    return json.loads(pathlib.Path(folder, "metrics.json").read_text())


def test_the_figures_are_those_of_the_written_scores(options):
    figures = figures_of(options.workdir)
    scores = pd.read_csv(pathlib.Path(options.workdir, "scores.csv"))
    expected = metrics.evaluate(
        scores.similarity.to_numpy(), scores.label.to_numpy(), figures["threshold"]
    )
    assert figures["pairs"] == 30 and figures["step"] == 30
    assert (
        figures["auc"] == pytest.approx(expected["auc"])
        and figures["accuracy"] == expected["accuracy"]
    )
    assert list(figures["tar_at_far"]) == ["0.1", "0.01", "0.001", "0.0001"]
    assert len(figures["baselines"]) == 4 and figures["intervals"]["auc"][0] <= figures["auc"]
    assert figures["seen_identities"] == dict(known=True, people=6, seen=0)


def test_a_pair_scores_as_in_the_validation_of_training(options):
    record = model_record.load(options.workdir)
    model, _ = checkpoint_files.load_model(options.workdir, record)
    pixels = (record.options.image_size, record.options.crop_fraction)
    source = PairSource.of(options.tfrecords, manifest.load(options.tfrecords), "test", *pixels)
    batches = input_pipeline.evaluation_batches(source, batch_size=8)
    expected, labels = PairScorer(tf.distribute.get_strategy(), model).score(batches)
    scores = pd.read_csv(pathlib.Path(options.workdir, "scores.csv"))
    np.testing.assert_allclose(scores.similarity, expected, atol=1e-5)
    np.testing.assert_array_equal(scores.label, labels)


def test_another_protocol_takes_the_written_scores(options, tmp_path):
    written, output = f"{options.workdir}/scores.csv", str(tmp_path)
    others = tmp_path / "others.csv"
    pd.read_csv(written).iloc[:20].to_csv(others, index=False)
    evaluate(
        EvaluateOptions(scores=written, threshold_scores=str(others), output=output, bootstrap=20)
    )
    of_model, again = figures_of(options.workdir), figures_of(output)
    assert again["auc"] == of_model["auc"] and again["pairs"] == 30
    assert (
        again["threshold_rule"] == "chosen on others.csv" and "auc" in again["intervals"]
    )  # of people, who are known
    assert (
        "20 of the 30 scored pairs are among those that the threshold was chosen on."
        in again["notes"]
    )


def test_a_copy_of_the_scored_scores_may_not_choose_the_threshold(options, tmp_path):
    written, copy = f"{options.workdir}/scores.csv", str(tmp_path / "copy.csv")
    pd.read_csv(written)[["similarity", "label"]].iloc[::-1].to_csv(copy, index=False)
    with pytest.raises(
        UserError,
        match="copy.csv holds the same labels and scores as .*scores.csv, which are scored",
    ):
        evaluate(
            EvaluateOptions(scores=written, threshold_scores=copy, output=str(tmp_path / "out"))
        )
    assert not (tmp_path / "out").exists()


def test_a_copy_of_the_scored_shards_may_not_choose_the_threshold(options, tmp_path):
    held = json.loads(pathlib.Path(options.tfrecords, "manifest.json").read_text())
    held["splits"]["val"] = held["splits"].pop("test")
    shutil.copytree(options.tfrecords, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_text(json.dumps(held))
    same = dataclasses.replace(
        options, threshold_tfrecords=str(tmp_path / "copy"), output=str(tmp_path / "out")
    )
    with pytest.raises(UserError, match="val holds the same pairs as test, which is scored"):
        evaluate(same)


@pytest.mark.parametrize("spelled", ["{0}/.", "{1}/link", "{0}/../{2}"])
def test_the_scored_split_is_known_however_its_path_is_spelled(options, tmp_path, spelled):
    shards = pathlib.Path(options.tfrecords)
    (tmp_path / "link").symlink_to(shards)
    other = spelled.format(shards, tmp_path, shards.name)
    with pytest.raises(UserError, match="is the split that is scored"):
        evaluate(dataclasses.replace(options, split="val", threshold_tfrecords=other))


def test_the_scored_list_in_another_format_may_not_choose_the_threshold(k_fold, listed, tmp_path):
    rows = ["image_a,image_b,label"]
    for line in pathlib.Path(k_fold.pairs_file).read_text().splitlines()[1:]:
        first, *others = line.split("\t")
        name, images = (
            (first, (others[0], others[1]))
            if len(others) == 2
            else (others[1], (others[0], others[2]))
        )
        ends = [
            f"{who}/{who}_{int(image):04d}.jpg"
            for who, image in zip((first, name), images, strict=True)
        ]
        rows.append(",".join([*ends, "true" if name == first else "false"]))
    (tmp_path / "same.csv").write_text("\n".join(rows) + "\n")
    same = dataclasses.replace(k_fold, threshold_pairs=str(tmp_path / "same.csv"))
    with pytest.raises(UserError, match="same.csv holds the same pairs as .*, which is scored"):
        evaluate(same)


def test_the_figures_say_how_the_model_was_trained(options, trained):
    found = figures_of(options.workdir)["run"]["training"]
    assert (
        found["seed"] == "0"
        and found["steps"] == "30"
        and found["starts"] == 1
        and found["teacher"] is None
    )
    assert found["manifest_sha256"] == files.sha256(f"{trained.tfrecords}/manifest.json")
    assert found["flags"]["learning_rate"] == "0.003" and found["at"].startswith("20")


def test_pictures_and_a_page_that_loads_nothing_else_are_written(options):
    for name in ("roc.png", "det.png", "histogram.png", "reliability.png", "embeddings.png"):
        assert pathlib.Path(options.workdir, name).read_bytes().startswith(b"\x89PNG")
    page = pathlib.Path(options.workdir, "report.html").read_text()
    assert page.count("<img") == 7 and page.count('src="data:image/') == 7
    assert "http" not in re.sub(
        '"data:image/[^"]*"', "", page.split("</style>")[1]
    )  # which base64 may spell by chance
    for said in (
        "TAR of the model and of baselines without learning",
        "Brier score",
        "untrained network",
        "The model trained on none of these people",
        "Worst pairs",
        "Flags of training",
        "--learning_rate",
        "manifest_sha256",
        "crop_fraction",
    ):
        assert said in page


def test_a_list_with_folds_is_cross_validated(k_fold, options):
    evaluate(k_fold)
    figures = figures_of(k_fold.output)
    assert figures["pairs"] == 24 and [fold["pairs"] for fold in figures["folds"]] == [12, 12]
    assert [fold["chosen_on"] for fold in figures["folds"]] == [12, 12]
    assert figures["accuracy"] == pytest.approx(
        np.mean([fold["accuracy"] for fold in figures["folds"]])
    )
    assert figures_of(options.workdir)["split"] == "test"


def test_flip_makes_an_image_and_its_mirror_image_one(trained):
    record = model_record.load(trained.workdir)
    model, _ = checkpoint_files.load_model(trained.workdir, record)
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)), tf.uint8)
    embeddings = scores_module._embed(model, pixels, flip=True)
    mirrored = scores_module._embed(model, pixels[:, :, ::-1], flip=True)
    np.testing.assert_allclose(embeddings, mirrored, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_list_takes_its_threshold_from_shards_and_flips(k_fold, options, tmp_path, capsys):
    workdir = str(shutil.copytree(options.workdir, tmp_path / "run"))
    chosen = dataclasses.replace(k_fold, threshold_tfrecords=options.tfrecords, flip=True)
    evaluate(dataclasses.replace(chosen, workdir=workdir, output=None))
    report = pathlib.Path(capsys.readouterr().out.splitlines()[-1].removeprefix("report: "))
    assert report == tmp_path / "run" / "pairs-flip" / "report.html" and report.exists()
    figures = figures_of(report.parent)
    assert (
        figures["threshold_split"] == "val"
        and "folds" not in figures
        and figures["run"]["flags"]["flip"] is True
    )


def test_a_broken_image_is_named_and_left_out_only_on_demand(k_fold, listed, tmp_path):
    images = tmp_path / "images"
    for path in (listed / "images").rglob("*.jpg"):
        (images / path.parent.name).mkdir(parents=True, exist_ok=True)
        (images / path.parent.name / path.name).write_bytes(path.read_bytes())
    (images / "S20" / "S20_0003.jpg").write_bytes(b"no image")
    broken = dataclasses.replace(k_fold, images=str(images))
    with pytest.raises(UserError, match=r"images that are missing or broken: S20/S20_0003\.jpg"):
        evaluate(broken)
    evaluate(dataclasses.replace(broken, allow_missing=True))
    figures = figures_of(k_fold.output)
    assert figures["pairs"] < 24 and "S20/S20_0003.jpg" in figures["notes"][-1]


def test_a_model_of_constant_scores_is_called_so_in_figures_page_and_table(
    k_fold, monkeypatch, capsys
):
    monkeypatch.setattr(
        scores_module, "_embed", lambda model, pixels, flip: np.eye(1, 16).repeat(len(pixels), 0)
    )
    evaluate(k_fold)
    figures = figures_of(k_fold.output)
    assert "every pair the same similarity (1)" in figures["notes"][0] and figures["auc"] == 0.5
    assert "tells nobody apart" in pathlib.Path(k_fold.output, "report.html").read_text()
    assert "tells nobody apart" in capsys.readouterr().out


def test_embeddings_that_are_not_finite_are_refused_by_the_first_image(k_fold, monkeypatch):
    monkeypatch.setattr(
        scores_module, "_embed", lambda model, pixels, flip: np.full((len(pixels), 16), np.nan)
    )
    with pytest.raises(
        UserError,
        match=r"22 of 22 embeddings are not finite, the first is that of S20/S20_0001\.jpg",
    ):
        evaluate(k_fold)
    assert not pathlib.Path(k_fold.output).exists()


def test_embeddings_of_the_untrained_network_must_be_finite(k_fold, monkeypatch):
    embed, models = scores_module._embed, []

    def embed_with_second_broken(model, pixels, flip):
        if model not in models:
            models.append(model)  # the trained one comes first
        return embed(model, pixels, flip) * (1 if model is models[0] else np.nan)

    monkeypatch.setattr(scores_module, "_embed", embed_with_second_broken)
    with pytest.raises(
        UserError, match="22 of 22 embeddings of the untrained network.* give --nobaselines"
    ):
        evaluate(dataclasses.replace(k_fold, baselines=True))


def test_a_threshold_that_training_people_chose_is_said_to_be(options, tmp_path):
    evaluate(
        dataclasses.replace(
            options, threshold_split="train", output=str(tmp_path), baselines=False, bootstrap=0
        )
    )
    (note,) = [note for note in figures_of(tmp_path)["notes"] if "training identities" in note]
    assert note.startswith(
        "The threshold was chosen on train, where 6 of 6 people are training identities"
    )
    assert note in html.unescape(pathlib.Path(tmp_path, "report.html").read_text())


def test_people_of_the_training_split_are_refused_and_reported_on_demand(options, tmp_path):
    training = dataclasses.replace(
        options, split="train", output=str(tmp_path), baselines=False, bootstrap=0
    )
    with pytest.raises(UserError, match="6 of the 6 people in train are training identities"):
        evaluate(training)
    evaluate(dataclasses.replace(training, allow_seen_identities=True))
    assert figures_of(tmp_path)["seen_identities"]["seen"] == 6
    assert "do not hold for strangers" in pathlib.Path(tmp_path, "report.html").read_text()


def test_the_saved_flags_give_the_same_figures_again(options, tmp_path):
    flags = pathlib.Path(options.workdir, "evaluate.flags")
    with pytest.raises(SystemExit) as left:
        cli.run(
            evaluate,
            EvaluateOptions,
            ["…"],
            argv=["x", f"--flagfile={flags}", f"--output={tmp_path}"],
        )
    assert not left.value.code
    again, before = figures_of(tmp_path), figures_of(options.workdir)
    assert {**again, "run": None} == {**before, "run": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(split="val"), "choose the threshold on another"),
        (dict(workdir=None), "--workdir is missing"),
        (dict(tfrecords=None), "no pairs to score"),
        (dict(tfrecords=None, pairs_file="pairs.txt"), "--images is missing"),
        (dict(pairs_file="pairs.txt", images="x"), "both name pairs to score"),
        (dict(tfrecords=None, pairs_bin="x.bin", pairs_file="y"), "--images is missing"),
        (
            dict(tfrecords=None, pairs_bin="x.bin", pairs_file="y", images="z"),
            "--pairs_file, --pairs_csv and --pairs_bin exclude each other",
        ),
        (dict(folds=3, threshold_pairs="p.txt", images="x"), "exclude each other"),
    ],
)
def test_flags_that_do_not_fit_each_other_are_refused(options, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate(dataclasses.replace(options, **changes))


def test_a_list_without_folds_needs_a_source_of_its_threshold(k_fold, tmp_path):
    (tmp_path / "one.txt").write_text("1\nS20\t1\t2\nS20\t1\tS21\t1\n")
    with pytest.raises(UserError, match="has no folds, and its threshold may not come from itself"):
        evaluate(dataclasses.replace(k_fold, pairs_file=str(tmp_path / "one.txt")))


def test_folders_after_other_flags_are_refused(options):
    with pytest.raises(UserError, match="'more' is no flag: only --compare"):
        evaluate(options, "more")


def test_a_workdir_without_a_model_is_refused(options, tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.json"):
        evaluate(dataclasses.replace(options, workdir=str(tmp_path)))


@pytest.fixture(scope="module")
def listed_bin(listed):
    """The images and pairs of `listed` as a verification set."""
    path = listed / "strangers.bin"
    make_bin = runpy.run_path("tools/make_bin.py")
    lists = dict(images=str(listed / "images"), pairs_file=str(listed / "pairs.txt"))
    make_bin["main"](make_bin["Options"](output=str(path), **lists))
    return path


@pytest.fixture
def of_bin(k_fold, listed_bin, tmp_path):
    return dataclasses.replace(
        k_fold, images=None, pairs_file=None, pairs_bin=str(listed_bin), folds=2
    )


def test_a_verification_set_has_the_figures_of_the_same_list(of_bin, k_fold, tmp_path, capsys):
    evaluate(of_bin)
    said = capsys.readouterr().out
    found = figures_of(of_bin.output)
    evaluate(dataclasses.replace(k_fold, output=str(tmp_path / "list")))
    expected = figures_of(tmp_path / "list")
    names = ("accuracy", "accuracy_standard_error", "insightface", "auc", "eer", "pairs")
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}
    for one, other in zip(found["folds"], expected["folds"], strict=True):
        assert one["threshold"] == pytest.approx(other["threshold"], abs=1e-6)
        assert one | dict(threshold=0, calibration=0) == other | dict(threshold=0, calibration=0)
    assert found["pairs"] == 24 and len(found["folds"]) == 2
    assert "intervals" in expected and "intervals" not in found
    assert "NOTE: strangers.bin does not name its people: they may be among" in said
    shown = "{accuracy:.4f} ± {standard_deviation:.4f}".format(**found["insightface"])
    assert f"InsightFace    {shown}  standard deviation over folds" in said
    page = pathlib.Path(of_bin.output, "report.html").read_text()
    assert "The model trained on none of these people" not in page


def test_a_verification_set_has_insightface_s_figures_of_its_embeddings(of_bin, tmp_path):
    held = verification_sets.load(of_bin.pairs_bin)
    ends = np.stack([held.first, held.second], axis=1).ravel()
    wrong = np.random.default_rng(0).random(24) < 0.3  # so that the accuracy is not 1
    path = str(tmp_path / "wrong.bin")
    labels = [bool(label) for label in held.labels != wrong]
    verification_sets.write(path, [held.images[end] for end in ends], labels)
    of_bin = dataclasses.replace(of_bin, pairs_bin=path)
    evaluate(of_bin)
    found = figures_of(of_bin.output)["insightface"]
    record = model_record.load(of_bin.workdir)
    model, _ = checkpoint_files.load_model(of_bin.workdir, record)
    rules = pairs_module.storage_rules(storage.Crop(), None)
    pairs = pairs_module.read_verification_set(of_bin.pairs_bin, rules, 2)
    features = scores_module.extract_features(
        pairs.images, "x", model, record.options, untrained=None, flip=False
    )
    embeddings = features.embeddings[ends].astype(np.float64)
    expected = insightface_reference(embeddings, pairs.labels == 1, folds=2)
    assert 0 < found["accuracy"] < 1 and found["standard_deviation"] > 0
    assert (found["accuracy"], found["standard_deviation"]) == pytest.approx(expected)


def test_a_verification_set_has_ten_folds_in_file_order(of_bin, listed_bin):
    pairs = pairs_module.read_verification_set(str(listed_bin), None)
    assert pairs.folds.tolist() == sorted(pairs.folds) and pairs.folds.max() == 9
    assert np.bincount(pairs.folds).tolist() == [3] * 4 + [2] * 6
    with pytest.raises(UserError, match="has 24 pairs, too few for 25 folds"):
        evaluate(dataclasses.replace(of_bin, folds=25))


def test_a_verification_set_may_choose_the_threshold_of_another(of_bin, options, tmp_path):
    chosen = dataclasses.replace(
        options, threshold_pairs=of_bin.pairs_bin, output=of_bin.output, bootstrap=0
    )
    evaluate(chosen)
    assert figures_of(chosen.output)["threshold_rule"] == "chosen on strangers.bin"
    same = dataclasses.replace(of_bin, folds=None, threshold_pairs=of_bin.pairs_bin)
    with pytest.raises(UserError, match="is the list that is scored"):
        evaluate(same)


def test_images_in_one_folder_have_unknown_people(of_bin, listed, tmp_path):
    for path in (listed / "images").glob("*/*.jpg"):
        (tmp_path / "flat").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "flat")
    lines = []
    for line in (listed / "pairs.txt").read_text().splitlines()[1:]:
        ends = line.split("\t")
        a, b = (ends[0], ends[-2] if len(ends) == 4 else ends[0])
        lines.append(f"{a}_{int(ends[1]):04d}.jpg {b}_{int(ends[-1]):04d}.jpg {int(a == b)}")
    (tmp_path / "flat.txt").write_text("\n".join(lines))
    flat = dict(images=str(tmp_path / "flat"), pairs_file=str(tmp_path / "flat.txt"))
    evaluate(dataclasses.replace(of_bin, pairs_bin=None, folds=None, **flat))
    found = figures_of(of_bin.output)
    assert found["pairs"] == 24 and len(found["folds"]) == 10 and "intervals" not in found
    (tmp_path / "flat" / "S20_0001.jpg").unlink()
    with pytest.raises(UserError, match="flat.txt, line 1: .*S20_0001.jpg"):
        evaluate(dataclasses.replace(of_bin, pairs_bin=None, folds=None, **flat))

"""Provokes every refusal that advises something and follows the advice: the command succeeds."""

import ast
import dataclasses
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable

import numpy as np
import pytest

from fv import (
    calibration,
    cli,
    evaluate,
    export,
    make_tfrecords,
    manifest,
    serve,
    train,
    verify,
    workdir,
    workers,
)
from fv import options as fv_options
from fv.benchmarking import BenchmarkOptions
from fv.conversion import options as options_module
from fv.conversion import pairs as pairs_module
from fv.embed import EmbedOptions
from fv.errors import UserError
from fv.evaluation import protocols
from fv.evaluation.options import EvaluateOptions
from fv.faces.dataset import FacesOptions
from fv.mining import MineOptions
from fv.model import initial_weights
from fv.pipeline.damage import DamagedRecords
from fv.pipeline.service import ServiceOptions
from fv.quickstart import QuickstartOptions
from fv.serving import formats, versions
from fv.serving.export import ExportOptions, find_held_out
from fv.sweeping import SweepOptions
from fv.training import cluster, feeding, teacher
from fv.training import strategy as strategies
from fv.training.options import OptimizerOptions, StrategyOptions, TrainOptions
from fv.training.run_record import Position
from fv.whiten import WhitenOptions
from tests import samples
from tests.conversion import making
from tests.evaluation.making import pair_set
from tools import clean, face_api_to_onnx, inspect_tfrecords

pytestmark = pytest.mark.usefixtures("blank_pictures")

ROOT = pathlib.Path(__file__).parent.parent
COMMANDS = (
    TrainOptions,
    EvaluateOptions,
    ExportOptions,
    options_module.ConvertOptions,
    MineOptions,
    WhitenOptions,
    SweepOptions,
)
COMMANDS += (FacesOptions, BenchmarkOptions, ServiceOptions, verify.VerifyOptions)
COMMANDS += (QuickstartOptions, inspect_tfrecords.Options, serve.ServeOptions, EmbedOptions)
COMMANDS += (clean.Options, face_api_to_onnx.Options)
OF_ALL_COMMANDS = {"help", "flagfile"}
OF_OTHER_TOOLS = {  # git, sha256sum, TensorBoard, TensorFlow Serving, Slurm, Docker, Beam
    *(
        "abbrev",
        "always",
        "dirty",
        "error-unmatch",
        "exclude",
        "check",
        "logdir",
        "enable_batching",
        "distribution",
    ),
    *("gpu-bind", "gpus-per-task", "gpus", "cpus", "dask_partition_size"),
}
PLACEHOLDERS = {"name", "flag"}

Call = Callable[..., subprocess.CompletedProcess]


def texts(path: pathlib.Path) -> list[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return [
        node.value
        for node in tree
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_every_flag_that_a_text_names_is_one_of_a_command():
    known = {
        flag.partition("=")[0][2:]
        for command in COMMANDS
        for flag, _ in fv_options.describe(command)
    }
    known |= OF_ALL_COMMANDS | OF_OTHER_TOOLS | PLACEHOLDERS
    unknown = {}
    for path in (path for folder in ("fv", "tools") for path in (ROOT / folder).rglob("*.py")):
        named = {
            name
            for text in texts(path)
            for name in re.findall(r"(?<![\w-])--([a-z][a-z_-]*)", text)
        }
        unknown |= {name: path for name in named if not {name, name.removeprefix("no")} & known}
    assert unknown == {}


def test_every_file_and_extra_that_a_text_names_is_there():
    said = "\n".join(
        text
        for folder in ("fv", "tools")
        for path in (ROOT / folder).rglob("*.py")
        for text in texts(path)
    )
    named = set(
        re.findall(r"\b(?:docs|tools|configs|tfrecords)/[a-zA-Z_]+\.(?:py|md|flags)\b", said)
    )
    assert {name for name in named if not (ROOT / name).exists()} <= {"configs/X.flags"}
    extras = {*re.findall(r"fv\[(\w+)\]", said), *formats.FILES}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras <= project["optional-dependencies"].keys()


def refusal(done: subprocess.CompletedProcess) -> str:
    """The line of a user's error."""
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    return next(line for line in done.stderr.splitlines() if ": error: " in line)


def advice(line: str) -> str:
    return line.rpartition(": ")[2]


def flags_in(text: str) -> list[str]:
    """The flags with a value that a text advises."""
    return re.findall(r"--[a-z_]+=[^\s,;)]+", text)


# Conversion


def convert(
    call: Call, images: pathlib.Path, output: pathlib.Path, *flags: str
) -> subprocess.CompletedProcess:
    return call(
        make_tfrecords.run,
        f"--images={images}",
        f"--output={output}",
        "--workers=1",
        "--shards=1",
        *flags,
    )


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> pathlib.Path:
    """Four people of four images each."""
    return making.crowd(tmp_path_factory.mktemp("few"), identities=4, images=4)


def obey_shares(line: str) -> list[str]:
    """The shares that an advice lowers or takes away, as flags: all to 0."""
    assert "train_fraction" not in line
    named = re.findall(r"(?:set|lower) (--(?:val|test)_fraction)", advice(line))
    assert named, line
    return [f"{flag}=0" for flag in named]


def convert_as_advised(call: Call, images: pathlib.Path, output: pathlib.Path, *flags: str) -> str:
    """Converts and follows each refusal's advice until it works; returns the first refusal."""
    lines = []
    while (done := convert(call, images, output, *flags)).returncode:
        lines.append(refusal(done))
        flags += tuple(obey_shares(lines[-1]))
        assert len(lines) < len(manifest.SPLITS), lines
    return lines[0]


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.6, 0.3), (0.9, 0.0), (0.0, 0.9)])
def test_splits_without_people_are_left_away_by_their_flags(call, few, tmp_path, shares):
    shares = [f"--val_fraction={shares[0]}", f"--test_fraction={shares[1]}"]
    assert "of 4 identities and needs two" in convert_as_advised(call, few, tmp_path, *shares)


@pytest.mark.parametrize("poor", manifest.SPLITS)
def test_a_split_of_single_images_is_left_away_or_enlarged(call, tmp_path, poor):
    names = [f"p{number:02d}" for number in range(12)]
    places = pairs_module.assign_splits(names, pairs_module.split_fractions(0.3, 0.3), seed=0)
    images = {name: 1 if place == poor else 2 for name, place in zip(names, places, strict=True)}
    folder, shares = (
        making.people(tmp_path / "images", **images),
        ["--val_fraction=0.3", "--test_fraction=0.3"],
    )
    line = convert_as_advised(call, folder, tmp_path / "out", *shares)
    assert f"no identity of the {poor} split has two images" in line


def test_single_images_alone_can_only_be_added_to(call, tmp_path):
    images = making.crowd(tmp_path / "images", identities=4, images=1)
    line = refusal(convert(call, images, tmp_path / "out", "--val_fraction=0", "--test_fraction=0"))
    assert advice(line) == "add images"


PAIRS = {
    "--pairs=7 is odd": (["--pairs=7"], "even number", ["--pairs=8"]),
    "too few": (["--pairs=2", "--genuine_fraction=0.25"], r"give (--pairs=\d+)", []),
    "more than": (["--pairs=1000"], r"more than the (\d+) pairs", []),
    "leaves no impostor pair": (["--genuine_fraction=0.99"], r"give (--genuine_fraction=0.5)", []),
    "leaves no genuine pair": (
        ["--genuine_fraction=0.01", "--max_pairs_per_image=1"],
        r"give (--genuine_fraction=0.5)",
        [],
    ),
    "holds a finished data set": (["--pairs=8", "--seed=1"], r"or (--overwrite)", []),
}


@pytest.mark.parametrize("said", PAIRS)
def test_numbers_of_pairs_are_mended_as_advised(call, few, tmp_path, said):
    provoking, pattern, corrected = PAIRS[said]
    whole = ["--val_fraction=0", "--test_fraction=0"]
    if said == "holds a finished data set":
        convert(call, few, tmp_path, *whole)
    line = refusal(convert(call, few, tmp_path, *whole, *provoking))
    assert said in line
    found = re.search(pattern, line)[re.compile(pattern).groups]
    corrected = corrected or [f"--pairs={found}" if found.isdecimal() else found]
    assert convert(call, few, tmp_path, *whole, *provoking, *corrected).returncode == 0


def test_changed_shards_are_converted_again(call, few, tmp_path, tiny_run):
    whole = ["--val_fraction=0", "--test_fraction=0"]
    convert(call, few, tmp_path, *whole)
    (shard,) = tmp_path.glob("*.tfrecord")
    for damage, advised in (
        (shard.unlink, "missing"),
        (lambda: shard.write_bytes(b""), "remove it and"),
    ):
        damage()
        with pytest.raises(UserError, match=f"{advised}.* convert again with --overwrite"):
            manifest.load(str(tmp_path))
        shard.unlink(missing_ok=True)
        assert convert(call, few, tmp_path, *whole, "--overwrite").returncode == 0
        manifest.load(str(tmp_path))
    spoil(tmp_path / manifest.FILE_NAME)
    with pytest.raises(UserError, match="convert again into another folder"):
        manifest.load(str(tmp_path))
    assert convert(call, few, tmp_path / "another", *whole).returncode == 0


def spoil(path: pathlib.Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))


@pytest.mark.parametrize("name", manifest.SPLITS)
def test_a_split_that_is_not_there_is_converted_by_its_flag(call, few, tmp_path, name):
    other = "test" if name == "train" else "train"
    shares = {
        "train": ["--val_fraction=0", "--test_fraction=0"],
        "test": ["--val_fraction=0", "--test_fraction=1"],
    }
    convert(call, few, tmp_path, *shares[other])
    with pytest.raises(UserError, match=f"hold no '{name}' pairs, only {other}") as refused:
        manifest.load(str(tmp_path)).split(name)
    assert "--overwrite" in str(refused.value)
    flag = re.findall(r"--(?:val|test)_fraction", str(refused.value))
    again = [f"{each}={0 if name == 'train' else 0.5}" for each in flag]
    whole = (
        convert(call, few, tmp_path, *shares[other], *again, "--overwrite", f"--seed={n}")
        for n in range(9)
    )
    assert any(done.returncode == 0 for done in whole)  # or "try another --seed"
    assert manifest.load(str(tmp_path)).split(name).pairs


# Training


@pytest.fixture
def begun(trained, tmp_path) -> TrainOptions:
    """Options of the finished run, in a copy of its workdir."""
    shutil.copytree(trained.workdir, tmp_path / "run")
    return dataclasses.replace(trained, workdir=str(tmp_path / "run"))


def start(call: Call, options: TrainOptions, *flags: str) -> subprocess.CompletedProcess:
    return call(train.run, *fv_options.to_flagfile(options).splitlines(), *flags)


@pytest.mark.parametrize(
    "changed", [["--embedding_size=8", "--dropout=0.5"], ["--feature_layer=b"]]
)
def test_a_workdir_of_another_model_goes_on_with_its_flags(call, begun, changed):
    line = refusal(start(call, begun, *changed))
    corrected = re.findall(r"(--[a-z_]+=[^\s,;)]+), not", line)
    without = re.findall(r"without (--[a-z_]+)", line)
    kept = [flag for flag in changed if flag.partition("=")[0] not in without]
    assert len(corrected) + len(without) == len(changed)
    assert start(call, begun, *kept, *corrected).returncode == 0


def test_a_workdir_of_other_data_goes_on_with_its_shards(call, begun, tmp_path):
    samples.write_shards(tmp_path / "other", {"train": 20, "val": 10}, identities=5)
    line = refusal(start(call, begun, f"--tfrecords={tmp_path / 'other'}"))
    before = re.search(r"give its --tfrecords \(it was ([^)]+)\)", line)[1]
    assert start(call, begun, f"--tfrecords={before}").returncode == 0


def test_another_optimizer_goes_on_with_the_flagfile_of_the_run(call, begun):
    done = start(call, begun, "--optimizer=sgd")
    line = refusal(done)
    assert "could not be found" not in done.stderr
    (flagfile,) = re.findall(r"--flagfile=[^\s,]+", line)
    assert call(train.run, flagfile).returncode == 0


@pytest.mark.slow
def test_damaged_checkpoints_are_removed_and_the_run_starts_anew(call, begun):
    for path in pathlib.Path(begun.workdir, workdir.CHECKPOINTS).glob("ckpt-*.index"):
        path.write_bytes(path.read_bytes()[:100])
    line = refusal(start(call, begun))
    first, best = re.search(
        r"no checkpoint in (\S+) is whole: remove that folder and (\S+) to start anew", line
    ).groups()
    for folder in (first, best):
        shutil.rmtree(folder)
    done = start(call, begun, "--steps=2")
    assert done.returncode == 0 and summary(done)["steps_now"] == 2


@pytest.mark.slow
def test_a_run_whose_loss_broke_goes_on_at_a_lower_rate(call, tiny_run, tmp_path):
    wild = OptimizerOptions(optimizer="sgd", learning_rate=1e30, warmup_steps=0)
    options = dataclasses.replace(
        tiny_run, workdir=str(tmp_path / "run"), steps=3, optimization=wild
    )
    line = refusal(start(call, options))
    assert line.endswith("the run then begins anew, since nothing is saved yet")
    done = start(call, options, "--learning_rate=0.001", "--clip_norm=1")
    assert done.returncode == 0 and summary(done)["steps_now"] == 3


def summary(done: subprocess.CompletedProcess) -> dict:
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))


def prepare(options: TrainOptions) -> None:
    """Does all that a training run does before its first step, except the model."""
    strategy = strategies.start_strategy(options.compute, options.seed)
    strategies.check_divides(
        strategy, options.global_batch_size, options.optimization.accumulate_steps
    )
    source, _ = feeding.pair_sources(options)
    with strategy.scope():
        teacher.load(options.teaching, options.model, source)
    if options.init_weights != "none":
        initial_weights.find_weights(options.init_weights, options.model)
    next(
        feeding.training_batches(
            strategy, source, options, Position(), DamagedRecords(options.tfrecords)
        )
    )


def parse(options: TrainOptions, flags: list[str]) -> TrainOptions:
    values, _ = cli.parse(TrainOptions, ["", *fv_options.to_flagfile(options).splitlines(), *flags])
    return fv_options.from_flags(TrainOptions, values)


# Message → flags that provoke it, pattern of the advice, and the flag that follows it.
TRAINING = {
    "does not divide over 1 replicas": (
        ["--global_batch_size=7", "--accumulate_steps=2"],
        r"a multiple of (\d+)",
        lambda number: f"--global_batch_size={3 * int(number)}",
    ),
    "is not made of groups": (
        ["--images_per_identity=6", "--head=softmax"],
        r"--global_batch_size by (\d+)",
        lambda number: f"--global_batch_size={8 * int(number)}",
    ),
    "reaches beyond": (
        ["--augment", "--crop_fraction=0.7", "--scale=0.85,1.9"],
        r"room for ([\d.]+)",
        lambda number: f"--scale=0.85,{number}",
    ),
    "--head=sigmoid learns nothing": (["--genuine_only", "--head=sigmoid"], r"give (\S+)", str),
    "--second_head=distance learns nothing": (
        ["--genuine_only", "--head=softmax", "--second_head=distance"],
        *(r"give (\S+)", str),
    ),
    "finds no GPU": (["--strategy=mirrored"], r"use (--strategy=one_device)", str),
    "holds a tiny, not a": (["--backbone=conv8", "--init_weights=WORKDIR"], r"give (\S+)", str),
    "gives embeddings of 16": (["--embedding_size=8", "--teacher=WORKDIR"], r"give (\S+)", str),
    "people who are not trained on here": (
        ["--tfrecords=WORKDIR/fewer", "--teacher=WORKDIR"],
        *(r"give (\S+)", str),
    ),
    "of a run that did not validate": (
        ["--init_weights=WORKDIR@best"],
        *(r"give (\S+)", str),
    ),
}


@pytest.mark.parametrize("said", TRAINING)
def test_flags_of_training_that_do_not_fit_are_mended_as_advised(begun, said):
    shutil.rmtree(pathlib.Path(begun.workdir, workdir.BEST))
    samples.write_shards(
        pathlib.Path(begun.workdir, "fewer"), {"train": 20, "val": 10}, identities=5
    )
    provoking, pattern, obey = TRAINING[said]
    provoking = [flag.replace("WORKDIR", begun.workdir) for flag in provoking]
    with pytest.raises(UserError, match=said) as refused:
        prepare(parse(begun, provoking))
    corrected = obey(re.search(pattern, str(refused.value))[1])
    prepare(parse(begun, [*provoking, corrected]))


def test_a_cache_that_does_not_fit_is_left_out_as_advised(begun, monkeypatch):
    monkeypatch.setattr(workers, "available_memory", lambda: 1000)
    with pytest.raises(UserError, match="use --cache=none"):
        prepare(parse(begun, ["--cache=decoded"]))
    prepare(parse(begun, ["--cache=none"]))


@pytest.mark.slow
def test_a_model_without_validation_is_evaluated_and_exported(call, tiny_run, shards, tmp_path):
    samples.write_shards(tmp_path / "all", {"train": 64, "test": 60})
    options = dataclasses.replace(
        tiny_run, tfrecords=str(tmp_path / "all"), workdir=str(tmp_path / "run"), steps=12
    )
    done = start(call, options)
    assert (
        done.returncode == 0
        and done.stdout.count("holds no 'val' pairs: the run validates nothing") == 1
    )
    assert summary(done)["val_auc"] is None

    scoring = [
        f"--workdir={options.workdir}",
        f"--tfrecords={options.tfrecords}",
        "--nobaselines",
        "--bootstrap=0",
    ]
    line = refusal(call(evaluate.run, *scoring))
    assert "holds no 'val' pairs to choose the threshold on" in line
    (folds,) = flags_in(advice(line))
    assert folds == "--folds=10"
    line = refusal(call(evaluate.run, *scoring, folds))
    (folds,) = re.findall(r"give (--folds=\d+)", line)
    line = refusal(call(evaluate.run, *scoring, folds))
    assert "choose the threshold on other pairs by --threshold_tfrecords" in line
    scoring.append(f"--threshold_tfrecords={shards}")
    line = refusal(call(evaluate.run, *scoring, "--checkpoint=best"))
    assert flags_in(advice(line)) == ["--checkpoint=last"]
    assert (
        call(evaluate.run, *scoring, "--checkpoint=last", f"--output={tmp_path / 'out'}").returncode
        == 0
    )

    exporting = [f"--workdir={options.workdir}", f"--output={tmp_path / 'export'}"]
    line = refusal(call(export.run, *exporting))
    assert "or give --tfrecords" in line
    line = refusal(call(export.run, *exporting, f"--tfrecords={options.tfrecords}"))
    assert line.endswith("--tfrecords names shards that hold others)")
    assert call(export.run, *exporting, f"--tfrecords={shards}").returncode == 0


# Evaluation


def test_refusals_of_an_evaluation_are_answered_by_their_flags(call, trained, tmp_path):
    scoring = [
        f"--workdir={trained.workdir}",
        f"--output={tmp_path}",
        "--nobaselines",
        "--bootstrap=0",
    ]
    shards = [*scoring, f"--tfrecords={trained.tfrecords}"]
    line = refusal(call(evaluate.run, *shards, "--split=train"))
    assert line.endswith("give --allow_seen_identities")
    assert call(evaluate.run, *shards, "--split=train", "--allow_seen_identities").returncode == 0
    line = refusal(call(evaluate.run, *shards, "--split=val"))
    assert line.endswith("choose the threshold on another, or by --folds")
    assert call(evaluate.run, *shards, "--split=val", "--threshold_split=test").returncode == 0

    samples.write_images(tmp_path / "images", identities=4, images=3)
    people = [f"person_{number:03d}" for number in range(4)]
    rows = [f"{name}/0000.jpg,{name}/0001.jpg,1" for name in people]
    rows += [f"{name}/0000.jpg,{other}/0001.jpg,0" for name, other in itertools.pairwise(people)]
    listing = tmp_path / "pairs.csv"
    listing.write_text(
        "\n".join(["image_a,image_b,label", *rows, f"{people[0]}/0000.jpg,{people[0]}/gone.jpg,1"])
    )
    listed = [
        *scoring,
        f"--images={tmp_path / 'images'}",
        f"--pairs_csv={listing}",
        "--allow_seen_identities",
    ]
    line = refusal(call(evaluate.run, *listed, "--allow_missing"))
    assert "give --folds" in line and "--threshold_tfrecords" in line
    listed.append(f"--threshold_tfrecords={trained.tfrecords}")
    line = refusal(call(evaluate.run, *listed))
    assert line.endswith("mend --images, or give --allow_missing")
    assert call(evaluate.run, *listed, "--allow_missing").returncode == 0


def test_fewer_folds_than_people_are_dealt_as_advised():
    pairs = pair_set(folds=1, pairs=12)  # of 12 people, some of whom are nobody's first
    with pytest.raises(UserError) as refused:
        protocols.split_folds(protocols.make_folds(pairs, 12, seed=0))
    count = int(re.search(r"give --folds=(\d+)$", str(refused.value))[1])
    training, testing = protocols.split_folds(protocols.make_folds(pairs, count, seed=0))
    assert len(training) == len(testing) == count


def test_damaged_shards_are_answered_by_flags_of_the_command(call, trained, shards, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    shard = next((tmp_path / "shards").glob("test-*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-9] + bytes(9))
    line = refusal(
        call(evaluate.run, f"--workdir={trained.workdir}", f"--tfrecords={tmp_path / 'shards'}")
    )
    assert "--max_bad_records" not in line
    inspect = re.search(r"python tools/inspect_tfrecords.py (\S+) checks", line)[1]
    assert "damaged: " in call(inspect_run, inspect).stderr


def inspect_run() -> None:
    cli.run(inspect_tfrecords.main, inspect_tfrecords.Options, positional=["DIR"])


# Export


@pytest.mark.parametrize("impostors", [1, 3, 7, 10, 11, 30, 77, 4321])
def test_the_far_that_is_advised_can_be_measured(impostors):
    labels = np.arange(2 * impostors) % 2
    scores = np.random.default_rng(0).random(2 * impostors).astype(np.float32)
    with pytest.raises(UserError, match="cannot be measured") as refused:
        calibration.choose_threshold(scores, labels, "val", threshold=None, target_far=1e-6)
    (flag,) = flags_in(str(refused.value).partition("; ")[2])
    calibration.choose_threshold(
        scores, labels, "val", threshold=None, target_far=float(flag.partition("=")[2])
    )


def test_an_export_of_another_checkpoint_names_how_to_evaluate_it(tmp_path):
    def measured(step: int) -> None:
        figures = {"step": step, "split": "test", "threshold_split": "val", "tfrecords": "shards"}
        (tmp_path / workdir.METRICS).write_text(json.dumps(figures))

    measured(30)
    with pytest.raises(
        UserError,
        match="the best checkpoint of step 20: run fv.evaluate again with --checkpoint=best",
    ):
        find_held_out(str(tmp_path), 20, None, "best")
    measured(20)
    assert find_held_out(str(tmp_path), 20, None, "best").tfrecords == "shards"


def test_an_export_passes_its_checksums_once_it_is_mended(call, exported, tmp_path):
    copy = tmp_path / "1"
    shutil.copytree(exported, copy)
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is no file of this export: remove it") as refused:
        versions.check_checksums(str(copy))
    pathlib.Path(str(refused.value).partition(" is no file")[0]).unlink()
    versions.check_checksums(str(copy))
    (copy / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UserError, match="copy the export again"):
        versions.check_checksums(str(copy))
    shutil.copytree(exported, copy, dirs_exist_ok=True)
    versions.check_checksums(str(copy))


# Clusters


TWO = "10.0.0.1:1,10.0.0.2:1"
TF_CONFIG = {
    "TF_CONFIG": json.dumps(
        {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    )
}
CLUSTERS = {
    "needs --workers": (dict(worker_index=1), {}, dict(workers=TWO, worker_index=1), {}),
    "needs --worker_index": (dict(workers=TWO), {}, dict(workers=TWO, worker_index=1), {}),
    "unset the variable": (
        dict(workers=TWO, worker_index=1),
        TF_CONFIG,
        dict(workers=TWO, worker_index=1),
        {},
    ),
    "leave --workers out": (dict(workers=TWO, worker_index=1), TF_CONFIG, {}, TF_CONFIG),
    "does not know the workers": ({}, {}, dict(workers=TWO, worker_index=1), {}),
    "names 10.0.0.1:1 twice": (
        *(dict(workers="10.0.0.1:1,10.0.0.1:1", worker_index=0), {}),
        *(dict(workers="10.0.0.1:1,10.0.0.1:2", worker_index=1), {}),
    ),
}


@pytest.mark.parametrize("said", CLUSTERS)
def test_a_cluster_is_found_once_its_flags_are_as_advised(said):
    given, environment, corrected, corrected_environment = CLUSTERS[said]
    with pytest.raises(UserError, match=re.escape(said)):
        cluster.find_cluster(StrategyOptions(strategy="multi_worker", **given), environment)
    found = cluster.find_cluster(
        StrategyOptions(strategy="multi_worker", **corrected), corrected_environment
    )
    assert (found.size, found.index) == (2, 1)


def test_the_port_that_is_advised_leaves_room_for_a_nodes_tasks():
    environment = {"SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "4"}
    with pytest.raises(UserError, match="leaves no ports") as refused:
        cluster.read_slurm(environment, 65534)
    (port,) = re.findall(r"give --workers=slurm:(\d+)", str(refused.value))
    assert cluster.read_slurm(environment, int(port)).size == 4

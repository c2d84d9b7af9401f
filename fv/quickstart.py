"""Trains a verifier on a folder of faces in minutes: python -m fv.quickstart --images=FOLDER

It converts the images, trains a small network for a first verdict, then trains, evaluates and
exports the model itself. It prints every command that it runs, and chooses their flags by these
rules:

- Crop: the centre square (all of the shorter side, 0.8 or 0.6 of it) whose pixels distinguish the
  people best.
- Network: conv8 at 48 pixels on a CPU, InceptionV3 in bfloat16 on a GPU. InceptionV3 sees 139
  pixels on a GPU. On a CPU, and for small faces, it sees 75 pixels and ends at its layer mixed7.
- Loss: softmax over the people plus n_pairs, on genuine pairs alone. With more than 20,000 people,
  the softmax samples 8,192 of them in each step.
- Steps: as many as fit into --minutes at the measured speed, and at most 300 views of each image.
  From 300 steps on, the augmentation is strong.
- Splits: a tenth of the people for validation and a tenth for the test, more if there are few.

The same command continues a run that was stopped. To change the choices, edit OUTPUT/run.flags and
give the command again, or run the printed commands.
"""

import contextlib
import dataclasses
import os
import pathlib
import shlex
import time
from collections.abc import Iterator, Sequence

from fv import cli, files, gpus, manifest, recipe, record, workdir, workers
from fv import options as fv_options
from fv.conversion import convert
from fv.conversion.faces import CENTRE, FaceOptions
from fv.conversion.options import ConvertOptions
from fv.errors import UserError
from fv.options import option, required
from fv.recipe import CONV8, INCEPTION, Network
from fv.serving import image_inputs

MIN_PEOPLE = 6  # with two images: two in each split
_STORE_SIZE = 160  # pixels of the shorter side
_PAIRS = 100_000  # about as many at most
_SPLIT_PEOPLE = 8  # in validation and test, at least, if they are at most a third of all
_CONVERTED_PER_SECOND = 300.0  # images, by one core
_TRIAL_STEPS = 12
# Pairs per second on a CPU, over those of the first network; measured on one without AVX-512.
_SPEEDS = {CONV8: 0.45, INCEPTION: 0.3}
# Starting the training, evaluation, export and verdicts, over the time of the small network's
# export and verdict.
_TIMES_AROUND = {CONV8: 4.0, INCEPTION: 6.0}
_WEAK_AUC = 0.6  # of pixels


@dataclasses.dataclass(frozen=True)
class QuickstartOptions:
    """What to train on, and for how long."""

    images: str = required(
        "folder with one folder of images per person, or other images that "
        "tools/make_tfrecords.py reads."
    )
    output: str = option("quickstart", "Folder for everything that is made.")
    minutes: float = option(15.0, "Time for all stages together.", lower=1.0)
    steps: int | None = option(
        None, "Training steps; if not given, as many as fit into --minutes.", lower=1
    )
    backbone: str = option(
        "auto",
        "The network; auto: inception_v3 on a GPU, else conv8.",
        choices=("auto", CONV8, INCEPTION),
    )
    convert_flags: str = option(
        "", "More flags of tools/make_tfrecords.py, separated by blanks, such as '--pairs=50000'."
    )
    seed: int = option(0, "Seed of splits, pairs, weights and augmentation.", lower=0)


def quickstart(options: QuickstartOptions) -> None:
    """Runs every stage in turn; a stage whose product is newer than its input is skipped.

    Raises:
      UserError: there are too few people, or the output was made with other options.
      SystemExit: a stage failed, with its exit code; its own message is on the screen.
    """
    _Quickstart(options).run()


class _Quickstart:
    """The stages of one quickstart."""

    def __init__(self, options: QuickstartOptions):
        self._options = options
        self._began = time.monotonic()
        try:
            self._convert_flags = shlex.split(options.convert_flags)
        except ValueError as error:
            raise UserError(f"--convert_flags={options.convert_flags}: {error}") from error
        self._gpu = gpus.find(os.environ)
        is_small = options.backbone == CONV8 or (options.backbone == "auto" and not self._gpu)
        self._backbone = CONV8 if is_small else INCEPTION
        self._shards, self._first, self._first_export, self._main, self._export = map(
            self._path, ("tfrecords", "first", "first_export", "run", "export")
        )

    def run(self) -> None:
        """Runs the stages."""
        self._claim_output()
        device = f"a GPU in bfloat16 ({self._gpu})" if self._gpu else "the CPU"
        _say(f"trains {self._backbone} on {device}, in about {self._options.minutes:g} minutes")
        self._convert()
        data = self._data = manifest.load(self._shards)
        self._faces = fv_options.parse(ConvertOptions, data.flags.splitlines()).faces
        self._crop = self._choose_crop()
        first = "2/5 train a small network for a first verdict: about a minute"
        with _stage(first, self._first_export):
            rate = self._train(self._first, recipe.FIRST, recipe.FEWEST_STEPS)
            began = time.monotonic()
            self._export_run(self._first, self._first_export)
            genuine, impostor = self._pair_files()
            self._verify(self._first_export, genuine)
            answering = time.monotonic() - began
        face_pixels = self._crop * (data.image_side or _STORE_SIZE)
        network = recipe.choose_network(self._backbone, bool(self._gpu), face_pixels)
        steps, plan = self._plan(network, rate, answering)
        with _stage(f"3/5 train {self._backbone}{plan}", self._main):
            self._train(self._main, network, steps)
        report = f"{self._main}/report.html"
        with _stage("4/5 evaluate it on people that training never saw: half a minute", report):
            if not _is_newer(f"{self._main}/{workdir.METRICS}", f"{self._main}/{workdir.RUN}"):
                where = (f"--workdir={self._main}", f"--tfrecords={self._shards}")
                cli.run_module("fv.evaluate", *where, "--split=test")
        with _stage("5/5 export it, and verify two pairs of test images: a minute", self._export):
            self._export_run(self._main, self._export)
            for pair in (genuine, impostor):
                self._verify(self._export, pair)
        print(self._summary(genuine))

    def _path(self, name: str) -> str:
        return os.path.join(self._options.output, name)

    def _claim_output(self) -> None:
        """Keeps the options in the output folder.

        Raises:
          UserError: it was made with other options.
        """
        path, text = self._path("quickstart.flags"), fv_options.to_flagfile(self._options)
        if not files.exists(path):
            os.makedirs(self._options.output, exist_ok=True)
            with files.atomic_open(path) as file:
                file.write(text)
        elif pathlib.Path(path).read_text() != text:
            raise UserError(
                f"--output={self._options.output} was made with other options: give another "
                f"--output, or continue it with --flagfile={path} alone"
            )

    def _convert(self) -> None:
        """Converts the images to shards of pairs.

        Raises:
          UserError: there are too few people.
        """
        if files.exists(f"{self._shards}/{manifest.FILE_NAME}"):
            return
        flags = [
            f"--images={self._options.images}",
            f"--output={self._shards}",
            f"--seed={self._options.seed}",
            f"--store_size={_STORE_SIZE}",
        ]
        values, _ = cli.parse(ConvertOptions, ["", *flags, *self._convert_flags])
        chosen = fv_options.from_flags(ConvertOptions, values)
        try:
            images, people = _count(chosen)
        except UserError as error:
            hint = "flags of the converter go into --convert_flags='…'"
            raise UserError(f"{error} ({hint})") from error
        share = min(1 / 3, max(0.1, _SPLIT_PEOPLE / people))
        flags += [f"--val_fraction={share:.3g}", f"--test_fraction={share:.3g}"]
        most = max(2, _PAIRS // (2 * people))  # of one person and label
        if most < chosen.max_pairs_per_identity:
            flags.append(f"--max_pairs_per_identity={most}")
        duration = _about(images / _CONVERTED_PER_SECOND / workers.available_cores())
        with _stage(f"1/5 convert {images:,} images to shards of pairs: {duration}", self._shards):
            # Of equal flags, the last one counts.
            cli.run_module("fv.make_tfrecords", *flags, *self._convert_flags)

    def _choose_crop(self) -> float:
        """Returns the crop whose pixels tell training people apart best; 1 if they were cropped."""
        pairs = manifest.read_pairs(self._shards, self._data.split("train"))
        aucs = {} if self._data.preprocessing.cuts else recipe.measure_crops(pairs)
        if not aucs:
            return 1.0
        best = max(aucs, key=lambda crop: aucs[crop])
        measured = ", ".join(f"{auc:.2f} for {crop:g}" for crop, auc in aucs.items())
        _say(f"crop: the centre {best:g} of the images (AUC of their pixels: {measured})")
        if aucs[best] < _WEAK_AUC:
            _say(
                "warning: pixels hardly tell these people apart, as where faces lie anywhere in "
                "photographs: align them, see docs/align.md, with --convert_flags=--detector=mtcnn"
            )
        return best

    def _plan(self, network: Network, rate: float, answering: float) -> tuple[int, str]:
        """Returns the steps of the main run, and a text about them and their time.

        Args:
          network: what it trains.
          rate: pairs a second of the small network's training.
          answering: seconds of the small network's export and verdict.
        """
        if files.exists(f"{self._main}.flags"):
            return 0, f" with {self._main}.flags"
        steps, rate = self._options.steps, rate * _SPEEDS[self._backbone]
        if self._gpu and steps is None:
            _say(f"measures the speed of {self._backbone}")
            rate = self._train(self._path("trial"), network, _TRIAL_STEPS)
        if steps is None:
            left = self._options.minutes * 60 - (time.monotonic() - self._began)
            left -= _TIMES_AROUND[self._backbone] * answering
            steps = recipe.choose_steps(self._data, network.batch, left * rate)
        duration = "" if self._gpu else f": {_about(steps * network.batch / rate)}"
        return steps, f", {steps:,} steps{duration}"

    def _train(self, folder: str, network: Network, steps: int) -> float:
        """Trains by FOLDER.flags, which is written unless it exists; returns pairs a second."""
        flagfile = f"{folder}.flags"
        if not files.exists(flagfile):
            crop, gpu, seed = self._crop, bool(self._gpu), self._options.seed
            flags = recipe.flags(self._data, network, crop=crop, steps=steps, gpu=gpu, seed=seed)
            lines = [f"--{name}={fv_options.to_text(value)}\n" for name, value in flags.items()]
            with files.atomic_open(flagfile) as file:
                file.writelines(["# Chosen by fv.quickstart; edit it as you like.\n", *lines])
        ended = workdir.last_start(folder).get("ended") or {}
        if not (
            ended.get("reason") == "finished" and _is_newer(f"{folder}/{workdir.RUN}", flagfile)
        ):
            where = (f"--tfrecords={self._shards}", f"--workdir={folder}")
            cli.run_module("fv.train", f"--flagfile={flagfile}", *where)
        return workdir.last_start(folder)["ended"]["pairs_per_second"]

    def _export_run(self, run: str, folder: str) -> None:
        """Exports a run unless the export has a newer version."""
        models = pathlib.Path(folder).glob("[0-9]*/saved_model.pb")
        if not any(_is_newer(str(model), f"{run}/{workdir.RUN}") for model in models):
            where = (f"--workdir={run}", f"--tfrecords={self._shards}", f"--output={folder}")
            cli.run_module("fv.export", *where)

    def _verify(self, model: str, pair: Sequence[str]) -> None:
        """Verifies two image files, whose faces are found as the converter found them."""
        flags = finder_flags(self._faces)
        cli.run_module("fv.verify", f"--model={model}", *flags, *pair, accepted=(0, 1))  # verdicts

    def _pair_files(self) -> tuple[list[str], list[str]]:
        """Returns the files of a genuine and an impostor pair of test people.

        They are the files in the images folder. Where there are none, or a file gives the faces,
        they are copies of the stored crops in the output.
        """
        found: dict[int, list[str]] = {}
        for pair in manifest.read_pairs(self._shards, self._data.split("test")):
            if pair.label not in found:
                found[pair.label] = [
                    self._image_file(path.decode(), encoded, f"pair_{pair.label}{side}.jpg")
                    for side, path, encoded in zip("ab", pair.names[2:], pair.images, strict=True)
                ]
            if len(found) == 2:
                break
        return found[record.GENUINE], found[record.IMPOSTOR]

    def _image_file(self, path: str, encoded: bytes, name: str) -> str:
        file_path = os.path.join(self._options.images, path)
        if self._faces.face_points or not files.is_file(file_path):
            file_path = self._path(name)
            with files.atomic_open(file_path, "wb") as file:
                file.write(encoded)
        return file_path

    def _summary(self, pair: Sequence[str]) -> str:
        figures = files.load_json(f"{self._main}/{workdir.METRICS}")
        people = len(self._data.split("test").identities)
        run, export, python = self._main, self._export, cli.program("python")
        finder = finder_flags(self._faces)
        serving = () if self._faces.face_points else finder  # images of others are no crops
        rows = [
            ("accuracy", f"{figures['accuracy']:.4f}"),
            ("AUC, EER", f"{figures['auc']:.4f}, {figures['eer']:.4f}"),
            *(
                (f"TAR at FAR {far}", f"{point['tar']:.4f}")
                for far, point in figures["tar_at_far"].items()
                if point["tar"] is not None
            ),
            ("test", f"{figures['pairs']:,} pairs of {people} people that training never saw"),
            ("time", f"{(time.monotonic() - self._began) / 60:.1f} minutes"),
            ("look at", f"{run}/report.html and {self._shards}/report.html"),
            ("curves", f"{cli.program('tensorboard')} --logdir {run}/{workdir.TENSORBOARD}"),
            ("verify", f"{python} -m fv.verify --model={export} {shlex.join((*finder, *pair))}"),
            ("web page", f"{python} -m fv.serve --model={export} {shlex.join(serving)}".rstrip()),
            ("train again", f"{python} -m fv.train --flagfile={run}.flags \\"),
            ("", f"    --tfrecords={self._shards} --workdir={run}2 --steps=…"),
        ]
        return "\n" + "\n".join(f"{name:<18}{value}" for name, value in rows)


def _count(chosen: ConvertOptions) -> tuple[int, int]:
    """Returns the images that the converter will find, and the people who have two or more.

    Raises:
      UserError: the images cannot be used, or there are too few people.
    """
    catalog = convert.list_images(chosen)
    convert.check_identities(chosen, catalog)
    people = int((catalog.images["identity"].value_counts() >= 2).sum())
    if people < MIN_PEOPLE:
        raise UserError(
            f"--images={chosen.images} holds {people} people with two images or more, and "
            f"{MIN_PEOPLE} are needed, two each for training, validation and test: add images of "
            "more people, or run 'make demo' to see fv on people who do not exist"
        )
    return len(catalog.images), people


def finder_flags(chosen: FaceOptions) -> list[str]:
    """Returns the flags of fv.verify that find faces as the converter's flags do.

    Where a file gives the faces, the images to verify are stored crops.
    """
    if chosen.face_points:
        return [f"--detector={image_inputs.CROPS}"]
    flags = [f"--detector={chosen.detector}"] if chosen.detector else []
    flags += [f"--detector_model={chosen.detector_model}"] if chosen.detector_model else []
    return [*flags, f"--no_face={image_inputs.CROP}"] if chosen.no_face == CENTRE else flags


def _is_newer(path: str, other: str) -> bool:
    """Whether a file exists and is not older than another."""
    return files.exists(path) and os.stat(path).st_mtime_ns >= os.stat(other).st_mtime_ns


@contextlib.contextmanager
def _stage(what: str, product: str) -> Iterator[None]:
    """Announces a stage, and says what it made and how long it took."""
    began = time.monotonic()
    _say(what)
    yield
    print(f"fv: made {product} in {time.monotonic() - began:.0f} s", flush=True)


def _say(text: str) -> None:
    print(f"\nfv: {text}", flush=True)


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} minutes" if seconds > 90 else f"about {seconds:.0f} s"


def run() -> None:
    """The console script."""
    cli.run(quickstart, QuickstartOptions, description=__doc__)


if __name__ == "__main__":
    run()

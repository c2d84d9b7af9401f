"""Options of fv.evaluate: which pairs are scored, by what, and where the threshold comes from."""

import dataclasses
import os

from fv import manifest
from fv.conversion.faces import FaceOptions
from fv.errors import UserError
from fv.options import group, option
from fv.workdir import checkpoint_flag


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and on what."""

    workdir: str | None = option(None, "Folder that fv.train wrote.")
    checkpoint: str = checkpoint_flag()
    output: str | None = option(
        None,
        "Folder for the results. By default the workdir for a split of shards; a folder in the "
        "workdir, named after the pairs, for a list, --threshold_pairs, --folds or --flip; beside "
        "--scores=FILE.csv, the folder FILE. With --compare by default the first run.",
    )
    tfrecords: str | None = option(None, "Folder of shards that tools/make_tfrecords.py wrote.")
    split: str = option("test", "Split of the shards to score.", choices=manifest.SPLITS)
    images: str | None = option(
        None, "Folder of the images of a list of pairs, one folder per person."
    )
    identity_level: int | None = option(
        None,
        "Level of the folder below --images that names the person, from 1, as in the converter; "
        "1 if not given.",
        lower=1,
    )
    merge_names: bool | None = option(
        None,
        "Treat names that differ only in spelling as one person, as in the converter. "
        "--nomerge_names treats them as different people, also in the comparison with the "
        "training identities.",
    )
    pairs_file: str | None = option(
        None,
        "Pairs in LFW's format (pairs.txt, pairsDevTest.txt) or with lines 'path path label', "
        "CFP's folder Protocol/Split/FP or FF, or AgeDB's .mat file, instead of shards.",
    )
    pairs_csv: str | None = option(
        None, "CSV of pairs with the columns image_a, image_b, label, instead of shards."
    )
    pairs_bin: str | None = option(
        None,
        "Verification set (lfw.bin, cfp_fp.bin, agedb_30.bin, …): images and pairs in one file, "
        "instead of shards.",
    )
    scores: str | None = option(
        None,
        "CSV of scores to evaluate instead of a model, with the columns label and score (higher "
        "means more similar) and, for intervals and folds of people, identity_a and identity_b.",
    )
    threshold_scores: str | None = option(
        None, "CSV of scores to choose the threshold on; not needed with --folds."
    )
    threshold_split: str = option(
        "val",
        "Split of shards to choose the threshold on and to fit the probability to.",
        choices=manifest.SPLITS,
    )
    threshold_tfrecords: str | None = option(
        None, "Folder of the shards with threshold_split; --tfrecords by default."
    )
    threshold_pairs: str | None = option(
        None,
        "List of pairs over --images to choose the threshold on: a CSV if its name ends in .csv, "
        "a verification set if in .bin, else as --pairs_file.",
    )
    folds: int | None = option(
        None,
        "Split the people into this many folds and choose each fold's threshold on the others. "
        "Not needed for a list with folds. A verification set has ten, in the order of its "
        "pairs.",
        lower=2,
        upper=1000,
    )
    crop: str | None = option(
        None,
        "Part of a list's images to use, as in the converter: none, the side of a centre "
        "square, or a CSV of boxes; the crop of the training images if not given.",
    )
    store_size: int | None = option(
        None,
        "Shorter side in pixels to which a list's images are reduced, as in the converter; that "
        "of the training images if not given.",
        lower=8,
    )
    faces: FaceOptions = group(FaceOptions)
    flip: bool = option(False, "Add the embedding of the mirrored image to each embedding.")
    baselines: bool = option(
        True, "Also score raw pixels, SSIM, grey histograms and the untrained network."
    )
    bootstrap: int = option(
        300, "Bootstrap samples for the intervals; 0 for none.", lower=0, upper=100_000
    )
    seed: int = option(0, "Seed of the bootstrap, the folds and the untrained network.", lower=0)
    allow_missing: bool = option(
        False, "Leave out pairs of a list whose images are missing or broken, and mark the report."
    )
    allow_seen_identities: bool = option(
        False, "Evaluate on people that the model was trained on, and mark the report."
    )
    compare: str | None = option(
        None, "Compare finished evaluations: --compare RUN RUN …, folders with metrics.json."
    )

    @property
    def pairs_list(self) -> str | None:
        """The file that lists the scored pairs; None if they are in shards."""
        return self.pairs_file or self.pairs_csv or self.pairs_bin

    @property
    def folder_list(self) -> str | None:
        """A file that lists pairs of --images; None if there is none."""
        other = self.threshold_pairs
        other = None if other and is_bin(other) else other
        return self.pairs_file or self.pairs_csv or other

    def given_flags(self) -> dict:
        """The values of the flags that are not None, by name."""
        values = {name: value for name, value in vars(self).items() if name != "faces"}
        values |= vars(self.faces)
        return {name: value for name, value in values.items() if value is not None}

    def check(self) -> None:
        """Checks flags against each other.

        Raises:
          UserError: a flag is missing, two contradict each other, or the threshold would be chosen
            on the scored pairs.
        """
        if self.scores:
            self._check_scores(self.scores)
            return
        if self.threshold_scores:
            raise UserError(
                f"--threshold_scores={self.threshold_scores} is for --scores: give those too, or "
                "choose the threshold of a model by --threshold_tfrecords, --threshold_pairs or "
                "--folds"
            )
        if self.workdir is None:
            raise UserError(
                "--workdir is missing: give the folder that fv.train wrote (or --compare RUN RUN …)"
            )
        if not (self.tfrecords or self.pairs_list):
            raise UserError(
                "no pairs to score: give --tfrecords, --pairs_bin, or --images with --pairs_file "
                "or --pairs_csv"
            )
        if self.folder_list and not self.images:
            raise UserError(
                f"--images is missing: give the folder with the images of {self.folder_list}"
            )
        if self.tfrecords and self.pairs_list:
            raise UserError(
                "--tfrecords and a list both name pairs to score: give --threshold_tfrecords for "
                "shards to choose the threshold on"
            )
        _require_at_most_one(
            "--pairs_file, --pairs_csv and --pairs_bin",
            self.pairs_file,
            self.pairs_csv,
            self.pairs_bin,
        )
        _require_at_most_one(
            "--threshold_tfrecords, --threshold_pairs and --folds",
            self.threshold_tfrecords,
            self.threshold_pairs,
            self.folds,
        )
        self._check_threshold_source()

    def _check_scores(self, scores: str) -> None:
        _require_at_most_one(
            "--scores, --tfrecords, --pairs_file, --pairs_csv and --pairs_bin",
            scores,
            self.tfrecords,
            self.pairs_list,
        )
        for name in ("workdir", "images", "threshold_tfrecords", "threshold_pairs"):
            if getattr(self, name) is not None:
                raise UserError(f"--{name} is for a model, not for --scores: leave out one of them")
        _require_at_most_one("--threshold_scores and --folds", self.threshold_scores, self.folds)
        if not (self.threshold_scores or self.folds):
            raise UserError(
                f"the threshold may not come from {scores} itself: give --threshold_scores or "
                "--folds"
            )
        if self.threshold_scores and _is_same(self.threshold_scores, scores):
            raise UserError(
                f"{scores} is what is scored: choose the threshold on other scores, or by --folds"
            )

    def _check_threshold_source(self) -> None:
        """Compares paths, before anything is read; `pair_sources.read_pairs` compares the pairs."""
        if self.tfrecords and not (self.threshold_pairs or self.folds):
            folder = self.threshold_tfrecords or self.tfrecords
            if self.split == self.threshold_split and _is_same(folder, self.tfrecords):
                raise UserError(
                    f"--threshold_split={self.split} is the split that is scored: choose the "
                    "threshold on another, or by --folds"
                )
        listed, other = self.pairs_list, self.threshold_pairs
        if listed and other and os.path.samefile(listed, other):
            raise UserError(
                f"{listed} is the list that is scored: choose the threshold on another, or by "
                "--folds"
            )


def is_bin(path: str) -> bool:
    """Whether a list of pairs is a verification set, by its name."""
    return path.lower().endswith(".bin")


def _require_at_most_one(flags: str, *values: object) -> None:
    if sum(value is not None for value in values) > 1:
        raise UserError(f"{flags} exclude each other: give one of them")


def _is_same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)

"""What an evaluation may be told."""

import dataclasses
import os

from fv import manifest
from fv.errors import UserError
from fv.options import option
from fv.workdir import checkpoint_flag


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and on what."""

    workdir: str | None = option(None, "Folder that fv.train wrote.")
    checkpoint: str = checkpoint_flag()
    output: str | None = option(
        None,
        "Folder for what is written: the workdir where a split of shards is scored as the export scores, else a folder in "
        "it that is named after the pairs.",
    )
    tfrecords: str | None = option(None, "Folder of shards that tools/make_tfrecords.py wrote.")
    split: str = option(
        "test", "Pairs of the shards that the figures are of.", choices=manifest.SPLITS
    )
    images: str | None = option(
        None, "Folder of images that a list is over, one folder per person."
    )
    identity_level: int | None = option(
        None,
        "Which folder below --images names the person, as in the converter; 1, the first, if not given.",
        lower=1,
    )
    merge_names: bool | None = option(
        None,
        "Take names for one person's that differ only in how they are written, as in the converter; --nomerge_names takes "
        "them for different people's, also where they are compared with the training identities.",
    )
    pairs_file: str | None = option(
        None, "Instead of shards: pairs in LFW's format (pairs.txt, pairsDevTest.txt)."
    )
    pairs_csv: str | None = option(
        None, "Instead of shards: a CSV of pairs with the columns image_a, image_b, label."
    )
    scores: str | None = option(
        None,
        "Instead of a model's: a CSV of given scores with the columns label and score (higher for more alike) and, for "
        "intervals and folds of people, identity_a and identity_b.",
    )
    threshold_scores: str | None = option(
        None, "Choose the threshold on this CSV of scores; --folds does without."
    )
    threshold_split: str = option(
        "val",
        "Pairs of shards that the threshold and the probability are chosen on.",
        choices=manifest.SPLITS,
    )
    threshold_tfrecords: str | None = option(
        None, "Folder of shards that hold threshold_split; --tfrecords by default."
    )
    threshold_pairs: str | None = option(
        None,
        "Choose the threshold on this list over --images: a CSV of pairs if its name ends in .csv, else LFW's format.",
    )
    folds: int | None = option(
        None,
        "Deal the people to this many folds; the other folds choose a fold's threshold. A list with folds needs none.",
        lower=2,
        upper=1000,
    )
    crop: str | None = option(
        None,
        "What part of a list's images is used, as in the converter: none, a centre square, or a CSV of boxes. As the "
        "model's training images were cut if not given.",
    )
    store_size: int | None = option(
        None,
        "What a list's images are made smaller to, as in the converter; the model's if not given.",
        lower=8,
    )
    flip: bool = option(False, "Add to each embedding that of the mirrored image.")
    baselines: bool = option(
        True, "Score raw pixels, SSIM, grey histograms and the untrained network too."
    )
    bootstrap: int = option(
        300,
        "Times that people are drawn anew for the intervals; 0 for none.",
        lower=0,
        upper=100_000,
    )
    seed: int = option(0, "Of the draws, of made folds and of the untrained network.", lower=0)
    allow_missing: bool = option(
        False, "Leave out the pairs of a list whose images are missing or broken, and say so."
    )
    allow_seen_identities: bool = option(
        False, "Report on people whom the model was trained on, and say so."
    )
    compare: str | None = option(
        None,
        "Put finished evaluations side by side: --compare RUN RUN …, folders with metrics.json.",
    )

    @property
    def pairs_list(self) -> str | None:
        """The file that lists the scored pairs, None where they are in shards."""
        return self.pairs_file or self.pairs_csv

    def check(self) -> None:
        """Checks what no single flag's range can.

        Raises:
          UserError: a flag is missing, or two contradict each other.
        """
        if self.scores:
            self._check_scores()
            return
        if self.workdir is None:
            raise UserError(
                "--workdir is missing: give the folder that fv.train wrote (or --compare RUN RUN …)"
            )
        if not (self.tfrecords or self.pairs_list):
            raise UserError(
                "no pairs to score: give --tfrecords, or --images with --pairs_file or --pairs_csv"
            )
        if (self.pairs_list or self.threshold_pairs) and not self.images:
            raise UserError(
                f"--images is missing: give the folder that {self.pairs_list or self.threshold_pairs} is over"
            )
        if self.tfrecords and self.pairs_list:
            raise UserError(
                "--tfrecords and a list both name pairs to score: name the threshold's by --threshold_tfrecords"
            )
        self._check_one("--pairs_file and --pairs_csv", self.pairs_file, self.pairs_csv)
        choosing = (
            self.threshold_tfrecords,
            self.threshold_pairs,
            self.folds,
        )
        self._check_one(
            "--threshold_tfrecords, --threshold_pairs and --folds",
            *choosing,
        )
        self._check_others_choose()

    def _check_scores(self) -> None:
        self._check_one(
            "--scores, --tfrecords, --pairs_file and --pairs_csv",
            self.scores,
            self.tfrecords,
            self.pairs_list,
        )
        self._check_one("--threshold_scores and --folds", self.threshold_scores, self.folds)
        if not (self.threshold_scores or self.folds):
            raise UserError(
                f"the threshold may not come from {self.scores} itself: give --threshold_scores or --folds"
            )
        if self.threshold_scores and os.path.realpath(self.threshold_scores) == os.path.realpath(
            self.scores
        ):
            raise UserError(
                f"{self.scores} is what is scored: choose the threshold on other scores, or by --folds"
            )

    @staticmethod
    def _check_one(flags: str, *values: object) -> None:
        if sum(value is not None for value in values) > 1:
            raise UserError(f"{flags} exclude each other: give one of them")

    def _check_others_choose(self) -> None:
        """Refuses the scored pairs by their place, before anything is read; `sources.read` compares what is read."""
        folders = [
            os.path.realpath(each)
            for each in (self.tfrecords, self.threshold_tfrecords or self.tfrecords)
            if each
        ]
        same = self.split == self.threshold_split and len(set(folders)) == 1
        if self.tfrecords and same and not (self.threshold_pairs or self.folds):
            raise UserError(
                f"--threshold_split={self.split} is the split that is scored: choose the threshold on another, or by --folds"
            )
        if (
            self.pairs_list
            and self.threshold_pairs
            and os.path.samefile(self.pairs_list, self.threshold_pairs)
        ):
            raise UserError(
                f"{self.pairs_list} is the list that is scored: choose the threshold on another, or by --folds"
            )

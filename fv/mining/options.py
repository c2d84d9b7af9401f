"""What mining may be told. Nothing here imports TensorFlow: the converter's processes import it too."""

import dataclasses

from fv.model import checkpoint_choice
from fv.options import option, required


@dataclasses.dataclass(frozen=True)
class MineOptions:
    """Whose pairs are mined, by which model, and how hard they may be."""

    tfrecords: str = required(
        "finished data set that tools/make_tfrecords.py sampled; its training people are mined."
    )
    workdir: str = required("folder that fv.train wrote: the model that says what is hard.")
    output: str = required("folder for the shards and manifest.json.")
    images: str | None = option(
        None, "Where the data set's images are now, if not where it was converted from."
    )
    checkpoint: str = checkpoint_choice.flag()
    pairs: int | None = option(
        None, "Training pairs; as many as the data set's if not given.", lower=2
    )
    hard_share: float = option(
        0.5,
        "Share of mined pairs among those of each label; the others are random.",
        lower=0.0,
        upper=1.0,
    )
    partners: int = option(
        20,
        "Of each image, partners that are looked at for each label, from the hardest on.",
        lower=1,
    )
    skip_nearest: int = option(
        1,
        "Nearest impostors of each image that are passed over, since they may be the same person.",
        lower=0,
    )
    skip_farthest: int = option(
        0,
        "Farthest genuine partners of each image that are passed over, since they may be someone else.",
        lower=0,
    )
    max_impostor_cosine: float = option(
        1.0,
        "Mined impostor pairs have no larger cosine of their embeddings.",
        lower=-1.0,
        upper=1.0,
    )
    min_genuine_cosine: float = option(
        -1.0,
        "Mined genuine pairs have no smaller cosine of their embeddings.",
        lower=-1.0,
        upper=1.0,
    )
    max_pairs_per_identity: int | None = option(
        None, "As in the converter; the data set's if not given.", lower=1
    )
    max_pairs_per_image: int | None = option(
        None, "As in the converter; the data set's if not given.", lower=1
    )
    search_mb: int = option(
        256,
        "Memory in MB of one tile of similarities in the search; it does not change the pairs.",
        lower=1,
    )
    batch_size: int = option(64, "Images embedded at once.", lower=1)
    seed: int = option(
        0,
        "Of which mined and random pairs are taken; the data set's own decides the splits.",
        lower=0,
    )
    overwrite: bool = option(False, "Replace a finished data set in the output folder.")
    workers: int | None = option(
        None, "Processes, which do not change the shards; one per core if not given.", lower=1
    )

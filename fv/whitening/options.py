"""What whitening may be told."""

import dataclasses

from fv.model import checkpoint_choice
from fv.options import option, required


@dataclasses.dataclass(frozen=True)
class WhitenOptions:
    """Which model, by which pairs, and how strongly."""

    workdir: str = required(
        "folder that fv.train wrote: the model whose embeddings are whitened; it stays as it is."
    )
    tfrecords: str = required(
        "folder of the shards that it was trained on; their genuine training pairs are measured."
    )
    output: str = required("new folder for the whitened model, a workdir like the first.")
    checkpoint: str = checkpoint_choice.flag()
    shrinkage: float = option(
        0.2,
        "Share of a sphere that is mixed into the spread within a person, (0, 1]: less trusts the pairs more.",
        lower=0.001,
        upper=1.0,
    )
    batch_size: int = option(64, "Pairs that are embedded at once.", lower=1)

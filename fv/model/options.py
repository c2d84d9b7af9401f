"""What makes a model: everything that has to be known to rebuild it around its weights."""

import dataclasses

from fv.options import option

BACKBONES = ("inception_v3", "resnet50", "efficientnet_v2_b0", "mobilenet_v3", "conv8", "tiny")
HEADS = (
    "sigmoid",
    "distance",
    "softmax",
    "all_distances",
    "n_pairs",
    "triplet_semihard",
    "triplet_hard",
)
POOLINGS = ("average", "flatten")


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The options that a workdir keeps in model.json."""

    backbone: str = option(
        "inception_v3", "Convolutional network under the embedding.", choices=BACKBONES
    )
    feature_layer: str | None = option(
        None, "Cut the backbone behind this layer (such as mixed7); its last by default."
    )
    pooling: str = option(
        "average", "How the backbone's last map becomes a vector.", choices=POOLINGS
    )
    image_size: int = option(
        75,
        "Side of the network's input in pixels; 75 or more for inception_v3.",
        lower=16,
        upper=1024,
    )
    crop_fraction: float = option(
        1.0,
        "Side of the centre square that is used, over the image's shorter side, (0, 1].",
        lower=0.01,
        upper=1.0,
    )
    embedding_size: int = option(128, "Numbers in an embedding.", lower=2, upper=8192)
    dropout: float = option(
        0.0,
        "Share of features dropped before the embedding in training, [0, 1).",
        lower=0.0,
        upper=0.99,
    )
    batch_norm_momentum: float = option(
        0.99,
        "Of the moving statistics; short runs need less, such as 0.9, [0, 1).",
        lower=0.0,
        upper=0.9999,
    )
    head: str = option(
        "softmax",
        "What the embeddings are trained by: a binary classifier of the pair (sigmoid), "
        "contrastive loss on the pair's distance (distance), a cosine softmax with margin over the "
        "training identities (softmax), or, over all images of a replica's batch, contrastive loss "
        "of every pair (all_distances), N-pairs, or triplets (tensorflow-addons).",
        choices=HEADS,
    )
    second_head: str = option(
        "none", "Another one whose loss is added; --head still scores.", choices=("none", *HEADS)
    )
    second_head_weight: float = option(1.0, "Factor on the second head's loss.", lower=0.0)
    softmax_scale: float = option(
        16.0, "Softmax and n_pairs: factor on the cosines.", lower=1.0, upper=128.0
    )
    softmax_margin: tuple[float, float] = option(
        (0.1, 0.0),
        "A or A,B: Softmax: subtracted from the true identity's cosine, as in CosFace, [0, 1], and "
        "added to its angle in radians, as in ArcFace, [0, 1.5].",
        lower=(0.0, 0.0),
        upper=(1.0, 1.5),
    )
    softmax_sample: int = option(
        0,
        "Softmax: other identities, drawn anew in each step, that a batch's own are told from; "
        "0 for all.",
        lower=0,
    )

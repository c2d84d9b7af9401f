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
        None,
        "Last layer of the backbone that the model uses, such as mixed7; all layers by default.",
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
        "Side of the centre square that the model uses, as a fraction of the image's shorter "
        "side, in (0, 1].",
        lower=0.01,
        upper=1.0,
    )
    regions: str | None = option(
        None,
        "Regions of the input, each with a backbone of its own and an equal part of the embedding: "
        "left:top:right:bottom:side, ..., edges as fractions of the input's side, side of the "
        "backbone's input in pixels. One backbone for the whole input by default.",
    )
    mirror: bool = option(
        False,
        "Embed each image and its mirror image, and add the two, in evaluation and in the export. "
        "It takes twice the time there.",
    )
    embedding_size: int = option(128, "Numbers in an embedding.", lower=2, upper=8192)
    dropout: float = option(
        0.0,
        "Share of features dropped before the embedding in training, in [0, 1).",
        lower=0.0,
        upper=0.99,
    )
    batch_norm_momentum: float = option(
        0.99,
        "Momentum of BatchNorm's moving statistics, in [0, 1); short runs need less, such as 0.9.",
        lower=0.0,
        upper=0.9999,
    )
    head: str = option(
        "softmax",
        "Loss on the embeddings. sigmoid: a binary classifier of the pair. distance: "
        "contrastive loss on the pair's distance. softmax: cosine softmax with margin over the "
        "training identities. all_distances, n_pairs, triplet_semihard, triplet_hard: "
        "contrastive, N-pairs or triplet loss over all images of a replica's batch; triplets "
        "need tensorflow-addons.",
        choices=HEADS,
    )
    second_head: str = option(
        "none",
        "A second head, whose loss is added. --head gives the similarity.",
        choices=("none", *HEADS),
    )
    second_head_weight: float = option(1.0, "Factor on the second head's loss.", lower=0.0)
    softmax_scale: float = option(
        16.0, "Factor on the cosines of softmax and n_pairs.", lower=1.0, upper=128.0
    )
    softmax_margin: tuple[float, float] = option(
        (0.1, 0.0),
        "A or A,B: margins of the softmax. A is subtracted from the cosine of the true "
        "identity, as in CosFace, [0, 1]. B is added to its angle in radians, as in ArcFace, "
        "[0, 1.5].",
        lower=(0.0, 0.0),
        upper=(1.0, 1.5),
    )
    softmax_sample: int = option(
        0,
        "Other identities that the softmax samples in each step, beside those of the batch; 0 "
        "for all.",
        lower=0,
    )

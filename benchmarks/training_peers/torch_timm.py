"""torch with timm's inception_v3, eager, in its own way: the same siamese head, loss and optimizer, channels last."""

from collections.abc import Iterator

import timm
import torch

from benchmarks.training_peers.work import MOMENTUM, SEED, Work


class Siamese(torch.nn.Module):
    """Encoder of unit embeddings, and logistic regression on |a − b| and a · b."""

    def __init__(self, embedding_size: int):
        super().__init__()
        self.backbone = timm.create_model("inception_v3", pretrained=False, num_classes=0)
        self.embedding = torch.nn.Linear(self.backbone.num_features, embedding_size, bias=False)
        self.logit = torch.nn.Linear(2 * embedding_size, 1)

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        """Logits [pairs] of uint8 [2 × pairs, 3, side, side]."""
        embeddings = torch.nn.functional.normalize(
            self.embedding(self.backbone(pairs.float() / 127.5 - 1.0))
        )
        first, second = embeddings.view(-1, 2, embeddings.shape[1]).unbind(1)
        return self.logit(torch.cat([(first - second).abs(), first * second], 1)).squeeze(1)


def train(work: Work) -> Iterator[None]:
    """On a GPU where there is one."""
    torch.manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Siamese(work.embedding_size).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), work.learning_rate, momentum=MOMENTUM, nesterov=True
    )
    pixels = torch.randint(
        0, 256, (2 * work.pairs, 3, work.image_size, work.image_size), dtype=torch.uint8
    )
    pixels = pixels.to(device, memory_format=torch.channels_last)
    labels = torch.arange(work.pairs, device=device).remainder(2).float()
    while True:
        for _ in range(work.stamp_steps):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(pixels), labels)
            loss.backward()
            optimizer.step()
        loss.item()
        yield

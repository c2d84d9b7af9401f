"""torch DataLoader with Pillow, a pair per item: what most PyTorch code does. Pillow's bilinear resize antialiases."""

import io
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from benchmarks.input_peers import indexed
from benchmarks.side_by_side.workload import Workload


class Pairs(torch.utils.data.Dataset):
    """An item is a pair, uint8 [2, side, side, 3]."""

    def __init__(self, work: Workload):
        self._shards, self._side = indexed.IndexedShards(work), work.side

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, pair: int) -> np.ndarray:
        return np.stack([self._load(encoded) for encoded in self._shards.encoded(pair)])

    def _load(self, encoded: memoryview) -> np.ndarray:
        image = Image.open(io.BytesIO(encoded)).convert("RGB")
        return np.asarray(image.resize((self._side, self._side), Image.Resampling.BILINEAR))


def batches(work: Workload) -> Iterator[torch.Tensor]:
    """One worker process per core."""
    dataset = Pairs(work)
    order = indexed.shuffled(len(dataset))
    return iter(torch.utils.data.DataLoader(dataset, work.batch_size, sampler=order, num_workers=work.cores))

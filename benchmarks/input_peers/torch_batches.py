"""torch DataLoader whose workers decode a whole batch per item with simplejpeg and OpenCV: the peer to beat."""

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.input_peers import indexed, pixels
from benchmarks.side_by_side.workload import Workload


class Batches(torch.utils.data.Dataset):
    """An item is a batch, asked for by the indices of its pairs."""

    def __init__(self, work: Workload):
        self._shards, self._side = indexed.IndexedShards(work), work.side

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, pairs: np.ndarray) -> torch.Tensor:
        images = pixels.load_batch(self._shards.encoded_batch(pairs), self._side)
        return torch.from_numpy(images.reshape(-1, 2, *images.shape[1:]))


def batches(work: Workload) -> Iterator[torch.Tensor]:
    """One worker process per core; batches come back through shared memory."""
    dataset = Batches(work)
    order = indexed.shuffled_batches(len(dataset), work.batch_size)
    return iter(
        torch.utils.data.DataLoader(dataset, batch_size=None, sampler=order, num_workers=work.cores)
    )

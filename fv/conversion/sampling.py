"""A sample of records that pass by, however many they are."""

import heapq
import random

from fv import record


class PairSample:
    """Keeps as many genuine and impostor pairs as wanted; each of either label that came is as likely to be among them."""

    def __init__(self, count: int, seed: int):
        """`count` pairs in all, half of them genuine; the same seed and the same records give the same sample."""
        self._wanted = {record.GENUINE: count - count // 2, record.IMPOSTOR: count // 2}
        self._kept = {
            label: [] for label in self._wanted
        }  # heaps of (−draw, −number of the record, record)
        self._random = random.Random(seed)
        self._seen = 0

    def add(self, pair: dict[str, bytes | int]) -> None:
        """Takes in what `record.decode_pair` gave; memory holds no more than the wanted pairs."""
        kept, draw = self._kept[pair[record.LABEL]], self._random.random()
        self._seen += 1
        if len(kept) < self._wanted[pair[record.LABEL]]:
            heapq.heappush(kept, (-draw, -self._seen, pair))
        elif kept and draw < -kept[0][0]:
            heapq.heapreplace(kept, (-draw, -self._seen, pair))

    def pairs(self) -> list[dict[str, bytes | int]]:
        """The sample, genuine pairs first, those of a label in the order in which they came."""
        return [
            pair
            for kept in self._kept.values()
            for _, _, pair in sorted(kept, key=lambda entry: -entry[1])
        ]

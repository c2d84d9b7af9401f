"""The answer on one pair."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer on one pair.

    Attributes:
      same: whether both images show the same person, which is similarity ≥ threshold.
      similarity: in [0, 1]; a score to compare with the threshold, not a probability.
      threshold: the similarity from which on two images are taken for the same person.
      probability: in [0, 1], that they show the same person, where as large a share of pairs is genuine as among the
        validation pairs that it was calibrated on (model_card.md has the share).
      distance: Euclidean distance of the embeddings, [0, 2].
    """

    same: bool
    similarity: float
    threshold: float
    probability: float
    distance: float

    def sentence(self) -> str:
        """The verdict in words."""
        said = "same person" if self.same else "different people"
        return f"{said}: similarity {self.similarity:.4f}, threshold {self.threshold:.4f}, probability {self.probability:.4f}"

"""Verdicts on pairs of images, from a SavedModel and nothing else."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from fv import detection
from fv.alignment import Face
from fv.errors import UserError
from fv.serving import contract, image_inputs
from fv.serving.contract import Engine, Outputs
from fv.serving.image_inputs import REFUSE, Batch, FinderOptions, ImageSource

# Finds the face in each image: as given, its bytes, and the caller's points, if any.
Find = Callable[[list, list[bytes], np.ndarray | None], list[Face]]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The answer on one pair.

    Attributes:
      same: whether both images show the same person, which is similarity ≥ threshold.
      similarity: in [0, 1]; a score to compare with the threshold, not a probability.
      threshold: similarity from which on two images show the same person.
      probability: in [0, 1], that they show the same person, if genuine pairs are as frequent as
        among the validation pairs (model_card.md has their share).
      distance: Euclidean distance of the embeddings, in [0, 2].
      face_a, face_b: the faces that were compared; None where images are crops.
    """

    same: bool
    similarity: float
    threshold: float
    probability: float
    distance: float
    face_a: Face | None = None
    face_b: Face | None = None

    def to_json(self) -> dict:
        """The fields, without faces where images are crops."""
        fields = {name: value for name, value in vars(self).items() if value is not None}
        faces = {name: face.to_json() for name, face in fields.items() if isinstance(face, Face)}
        return fields | faces

    def sentence(self) -> str:
        """The verdict in words."""
        who = "same person" if self.same else "different people"
        scores = f"similarity {self.similarity:.4f}, threshold {self.threshold:.4f}"
        faces = (("first", self.face_a), ("second", self.face_b))
        lines = [f"{name} face: {face}" for name, face in faces if face]
        return "\n".join([f"{who}: {scores}, probability {self.probability:.4f}", *lines])


class Verifier:
    """A SavedModel that `fv.export` wrote, loaded once. Threads may share it.

    If the model was trained on aligned faces, the face in each image is found and aligned first.
    """

    def __init__(
        self,
        path: str,
        threshold: float | None = None,
        *,
        engine: str = "tensorflow",
        detector: str = detection.MTCNN,
        detector_model: str | None = None,
        no_face: str = REFUSE,
        face_points: str | None = None,
    ):
        """Loads the model. `detector` and what follows is for models of aligned faces.

        If it has no checksums, a warning on stderr says that a SavedModel is code. If it was
        trained on boxes, a note says that images have to be cut to the face's box.

        Args:
          path: folder of one version, such as export/1, or of versions, whose highest is taken.
          threshold: similarity from which on two images show the same person, in [0, 1]; the
            model's by default.
          engine: tensorflow; or onnx, for an export with `--formats=saved_model,onnx`.
          detector: finds faces: mtcnn, yunet, or none, which takes every image for a crop that
            is aligned already.
          detector_model: the ONNX file of yunet.
          no_face: what becomes of an image without a face: `REFUSE` raises UserError, `CROP` takes
            its centre square.
          face_points: a file of faces as for the converter, with paths from its own folder on;
            faces of other images are found.

        Raises:
          UserError: the folder holds no SavedModel of fv, or its files do not match its checksums.
        """
        # `fv.Client` shares this class and does without TensorFlow.
        from fv.serving.engine import load_engine

        loaded = load_engine(path, engine)
        options = FinderOptions(detector, detector_model, no_face)
        finder = image_inputs.make_finder(loaded.card, loaded.path, options, face_points)
        self._use(loaded, threshold, finder.find if finder else None)

    def _use(self, engine: Engine, threshold: float | None, find: Find | None) -> None:
        """Takes over an engine; without `find` it is given crops."""
        self._engine, self.path = engine, engine.path
        self._max_pixels = contract.max_pixels(engine.card)
        self._find = find
        self.threshold = engine.threshold if threshold is None else _check_threshold(threshold)

    def verify(
        self,
        image_a: ImageSource | Batch,
        image_b: ImageSource | Batch,
        threshold: float | None = None,
        *,
        points_a: np.ndarray | None = None,
        points_b: np.ndarray | None = None,
    ) -> Verdict | list[Verdict]:
        """Compares two images, or two batches of them pair by pair.

        Args:
          image_a: a path or bytes of a file of any format that the converter takes, a uint8 array
            [height, width, 3], a PIL image; or a list of these, or a uint8 array [batch, height,
            width, 3].
          image_b: as image_a.
          threshold: in place of the verifier's.
          points_a: of the face in image_a, [5, 2] or [batch, 5, 2] (`fv.alignment`), for a model of
            aligned faces; found by the detector if None.
          points_b: as points_a.

        Returns:
          A verdict, or a list of them for batches.

        Raises:
          UserError: an image is missing, broken, too large or has no face, and the message names
            it; or the batches differ in length.
        """
        if image_inputs.is_batch(image_a) != image_inputs.is_batch(image_b):
            raise UserError(
                "one image and a batch cannot be compared: give two images, or two lists of one "
                "length"
            )
        images_a, images_b = image_inputs.as_batch(image_a), image_inputs.as_batch(image_b)
        if len(images_a) != len(images_b):
            raise UserError(
                f"{len(images_a):,} and {len(images_b):,} images are no pairs: give two lists of "
                "one length"
            )
        batches = {
            contract.IMAGE_A: (images_a, points_a),
            contract.IMAGE_B: (images_b, points_b),
        }
        answer, faces = self._call_on_images("serving_default", batches)
        verdicts = self._verdicts(answer, threshold, faces.values())
        return verdicts if image_inputs.is_batch(image_a) else verdicts[0]

    def embed(self, images: ImageSource | Batch, points: np.ndarray | None = None) -> np.ndarray:
        """Embeds images as `verify` takes them; float32 [batch, d], or [d] for a single image."""
        given = {contract.IMAGE: (image_inputs.as_batch(images), points)}
        embeddings = self._call_on_images("embed", given)[0][contract.EMBEDDING]
        return embeddings if image_inputs.is_batch(images) else embeddings[0]

    def compare(
        self, embedding_a: np.ndarray, embedding_b: np.ndarray, threshold: float | None = None
    ) -> Verdict | list[Verdict]:
        """Compares embeddings that `embed` made: [d] each for a verdict, [batch, d] for a list.

        Raises:
          UserError: shapes differ or are not this model's, or an embedding is not of unit length.
        """
        pair = [np.asarray(embedding, np.float32) for embedding in (embedding_a, embedding_b)]
        shapes = [list(one.shape) for one in pair]
        size = self._engine.embedding_size
        if shapes[0] != shapes[1] or shapes[0][-1:] != [size] or len(shapes[0]) > 2:
            raise UserError(
                f"embeddings {shapes[0]} and {shapes[1]} do not fit: give [{size}] each, or "
                f"[batch, {size}] each"
            )
        first, second = (np.atleast_2d(one) for one in pair)
        inputs = {contract.EMBEDDING_A: first, contract.EMBEDDING_B: second}
        verdicts = self._verdicts(self._engine.run("compare", inputs), threshold)
        return verdicts if pair[0].ndim == 2 else verdicts[0]

    def _call_on_images(
        self, signature: str, batches: dict[str, tuple[list, np.ndarray | None]]
    ) -> tuple[Outputs, dict[str, list[Face]]]:
        """Answers a signature of crops for images and points; also returns the faces in them."""
        inputs: dict[str, np.ndarray | list[bytes]] = {}
        faces: dict[str, list[Face]] = {}
        for name, (batch, points) in batches.items():
            encoded = [image_inputs.encode(one, self._max_pixels) for one in batch]
            inputs[name] = encoded
            if self._find:
                faces[name] = self._find(batch, encoded, points)
                found = [face.points for face in faces[name]]
                places = np.array(found, np.float32).reshape(-1, 5, 2)
                inputs[contract.points_of(name)] = places
            elif points is not None:
                raise UserError(
                    f"{self.path} takes images that are cut already: leave out the points"
                )
        aligned = contract.ALIGNED[signature] if self._find else signature
        names = {
            name: list(map(image_inputs.name_image, batch)) for name, (batch, _) in batches.items()
        }
        with contract.use_names(names):
            return self._engine.run(aligned, inputs), faces

    def _verdicts(
        self, answer: Outputs, threshold: float | None, faces: Iterable[list[Face]] = ()
    ) -> list[Verdict]:
        threshold = self.threshold if threshold is None else _check_threshold(threshold)
        columns = [answer[name] for name in ("similarity", "probability", "distance")]
        if not np.isfinite(columns).all():
            raise UserError(
                f"{self.path} gives a similarity that is no finite number: its weights diverged, "
                "export again"
            )
        same = (columns[0] >= np.float32(threshold)).tolist()
        rows = zip(same, *(column.tolist() for column in columns), *faces, strict=True)
        return [
            Verdict(same, similarity, threshold, probability, distance, *found)
            for same, similarity, probability, distance, *found in rows
        ]


def _check_threshold(threshold: float) -> float:
    if not 0.0 <= threshold <= 1.0:
        raise UserError(f"the threshold {threshold} is no similarity: give one from 0 to 1")
    return float(threshold)

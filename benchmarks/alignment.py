"""What alignment saves when faces are anywhere in a photograph.

Places the images of the test pairs in photographs of 640 × 480 pixels, rotated by up to 30° and
scaled by 0.4 to 2.5, and evaluates one model of aligned faces on the originals, on the photographs,
and on the photographs without detection (their centre square). Counts in how many images of hard
kinds the face is found.

    python benchmarks/alignment.py --images=lfw --tfrecords=tfrecords/aligned \
        --workdir=runs/aligned --output=/tmp/photographs --json=alignment.json
"""

import csv
import dataclasses
import math
import os

import cv2
import numpy as np
import pandas as pd
import simplejpeg

from fv import (
    alignment,
    cli,
    detection,
    face_files,
    files,
    quiet_tensorflow,  # noqa: F401
    workdir,
    workers,
)
from fv.alignment import Face
from fv.conversion import faces, storage
from fv.conversion.faces import FaceOptions
from fv.evaluate import EvaluateOptions, evaluate
from fv.evaluation import pair_sources
from fv.faces import renderer
from fv.options import option, required

WIDTH, HEIGHT = 640, 480  # pixels of a photograph
ANGLE = 30.0  # degrees at most
SCALES = 0.4, 2.5
CASES = 100  # images of each hard kind
_FACE = 0.45  # of an original's side: the face in its middle, which stays inside the photograph
_MAX_PIXELS = 10**8


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    images: str = required("folder of the original images.")
    tfrecords: str = required("data set of aligned faces, converted from --images.")
    workdir: str = required("model that was trained on it.")
    output: str = required("folder for the photographs and their faces; what is there is kept.")
    pairs: int = option(1_794, "Test pairs, the first of the split.", lower=2)
    flip: bool = option(True, "Add the embedding of the mirrored image.")
    seed: int = option(0, "Of places, angles, scales and backgrounds.", lower=0)
    json: str | None = option(None, "File for the figures.")


def main(options: Options) -> None:
    """Makes the photographs, evaluates, and prints accuracy and AUC of each way."""
    pairs = pair_sources.read_shard_pairs(options.tfrecords, "test")
    ends = list(zip(pairs.first, pairs.second, pairs.labels, strict=True))[: options.pairs]
    paths = sorted({pairs.images.paths[end] for a, b, _ in ends for end in (a, b)})
    for number, path in enumerate(paths):
        target = os.path.join(options.output, path)
        if not os.path.exists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            data = files.read_bytes(os.path.join(options.images, path))
            rng = np.random.default_rng((options.seed, number))
            photograph = place(storage.decode_upright(data, _MAX_PIXELS), rng)
            cv2.imwrite(target, photograph[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    listed = os.path.join(options.output, "pairs.csv")
    with files.atomic_open(listed) as file:
        rows = csv.writer(file)
        rows.writerow(("image_a", "image_b", "label"))
        rows.writerows((pairs.images.paths[a], pairs.images.paths[b], c) for a, b, c in ends)
    points = os.path.join(options.output, faces.FILE)
    finder, kept = FaceOptions(detector=detection.MTCNN), os.path.join(options.output, "detected")
    with workers.pool(workers.available_cores()) as run:  # another model needs no second detection
        seen = faces.find_faces(finder, 0.0, paths, options.output, _MAX_PIXELS, run, kept)
    assert seen is not None
    face_files.write(points, seen.by_path, seen.alignment.detector)
    nowhere = os.path.join(options.output, "nowhere.csv")
    face_files.write(nowhere, dict.fromkeys(paths), alignment.GIVEN)
    known = os.path.join(options.tfrecords, faces.FILE)
    # Where an original shows several people, another of them may be nearer to the centre now.
    read, _ = face_files.read(known)
    alone = {path for path, face in read.items() if face and face.faces == 1}
    found = FaceOptions(face_points=known)
    ways = {
        "originals": (options.images, found),
        "photographs": (options.output, FaceOptions(points)),
        "photographs, centre": (options.output, FaceOptions(nowhere, no_face=faces.CENTRE)),
    }
    figures = {}
    for name, (folder, chosen) in ways.items():
        output = os.path.join(options.workdir, f"alignment-{name.replace(', ', '-')}")
        evaluate(
            EvaluateOptions(
                workdir=options.workdir,
                images=folder,
                pairs_csv=listed,
                threshold_tfrecords=options.tfrecords,
                output=output,
                flip=options.flip,
                faces=chosen,
                baselines=False,
                bootstrap=0,
                allow_missing=True,
            )
        )
        measured = files.load_json(os.path.join(output, workdir.METRICS))
        scored, rows = measured["pairs"], pd.read_csv(os.path.join(output, workdir.SCORES))
        single = rows[rows["image_a"].isin(alone) & rows["image_b"].isin(alone)]
        figures[name] = {
            "pairs": len(ends),
            "without_face": len(ends) - scored,
            # A pair without a face counts as an error.
            "accuracy": measured["accuracy"] * scored / len(ends),
            "auc": measured["auc"],
            "pairs_of_one_face": len(single),
            "accuracy_of_one_face": float((single["same"] == single["label"]).mean()),
        }
    for name, row in figures.items():
        print(
            f"{name:20} accuracy {row['accuracy']:.4f}, AUC {row['auc']:.4f}, "
            f"{row['without_face']} pairs without a face; accuracy "
            f"{row['accuracy_of_one_face']:.4f} of the {row['pairs_of_one_face']:,} pairs whose "
            "originals show one face each"
        )
    figures["cases"] = count_found(options, read)
    for name, count in figures["cases"].items():
        print(f"{name:32} {count} of {CASES}")
    if options.json:
        files.save_json(figures, options.json)


def count_found(options: Options, known: dict[str, Face | None]) -> dict[str, int]:
    """In how many images of a hard kind the right face is found, of `CASES`."""
    alone = sorted(path for path, face in known.items() if face and face.faces == 1)
    paths = alone[:: len(alone) // CASES][:CASES]
    cases: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(name: str, image: np.ndarray, matrix: np.ndarray, points: np.ndarray) -> None:
        canvas = cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), borderValue=(120, 120, 120))
        cases.setdefault(name, []).append((canvas, points @ matrix[:, :2].T + matrix[:, 2]))

    for number, path in enumerate(paths):
        face = known[path]
        assert face is not None and face.box is not None
        data = files.read_bytes(os.path.join(options.images, path))
        image = storage.decode_upright(data, _MAX_PIXELS)
        left, _, width, _ = face.box
        for pixels in (12, 16, 20, 40):
            scale = pixels / width
            small = alignment.warp(image, np.array([[scale, 0, 0], [0, scale, 0]]), 120)
            moved = np.array([[1.0, 0, 300], [0, 1, 220]])
            add(f"{pixels} pixels wide", small, moved, face.points * scale)
        for share in (0.25, 0.5):
            matrix = np.array([[1.0, 0, -left - share * width], [0, 1, 100]])
            add(f"{share:.0%} beyond the left edge", image, matrix, face.points)
        for angle in (15, 30, 45, 60, 180):
            matrix = cv2.getRotationMatrix2D((125, 125), angle, 1.0)
            matrix[:, 2] += (195, 115)
            add(f"turned by {angle}°", image, matrix, face.points)
        other = files.read_bytes(os.path.join(options.images, paths[number - 1]))
        add(
            "another person at 60 % beside it",
            image,
            np.array([[1.0, 0, 195], [0, 1, 115]]),
            face.points,
        )
        beside = alignment.warp(storage.decode_upright(other, _MAX_PIXELS), np.eye(2, 3) * 0.6, 150)
        cases["another person at 60 % beside it"][-1][0][10:160, 10:160] = beside
    detector, found = detection.load(detection.MTCNN), {}
    for name, made in cases.items():
        faces_found = detection.find_faces(detector, (image for image, _ in made))
        found[name] = sum(
            face is not None
            and bool(np.abs(face.points.mean(axis=0) - points.mean(axis=0)).max() < size / 2)
            for face, (_, points) in zip(faces_found, made, strict=True)
            for size in [np.hypot(*(points[1] - points[0]))]
        )
    drawn = [
        simplejpeg.decode_jpeg(renderer.render_jpeg(1, person, 0, 112), "RGB")
        for person in range(CASES)
    ]
    rng = np.random.default_rng(options.seed)
    blurs = [rng.integers(0, 256, (*rng.integers(3, 60, 2), 3), np.uint8) for _ in range(CASES)]
    nobody = (cv2.resize(blur, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for blur in blurs)
    found["a drawing"] = sum(map(bool, detection.find_all(detector, drawn)))
    found["nobody (a face all the same)"] = sum(map(bool, detection.find_all(detector, nobody)))
    return found


def place(original: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts an image into a photograph of smooth random colours, its face inside the edges."""
    height, width, _ = original.shape
    scale = math.exp(rng.uniform(*np.log(SCALES)))
    reach = _FACE * min(height, width) * scale / 2
    centre = [
        rng.uniform(min(reach, side / 2), max(side - reach, side / 2)) for side in (WIDTH, HEIGHT)
    ]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-ANGLE, ANGLE), scale)
    matrix[:, 2] += np.array(centre) - (width / 2, height / 2)
    colours = rng.integers(0, 256, (3, 4, 3), np.uint8)
    photograph = cv2.resize(colours, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    if scale < 1.0:  # without aliasing
        size = max(1, round(width * scale)), max(1, round(height * scale))
        original = cv2.resize(original, size, interpolation=cv2.INTER_AREA)
        matrix[:, :2] *= width / size[0]
    mask = cv2.warpAffine(np.full(original.shape, 255, np.uint8), matrix, (WIDTH, HEIGHT))
    moved = cv2.warpAffine(original, matrix, (WIDTH, HEIGHT))
    share = mask.astype(np.float32) / 255
    return np.round(moved + (1 - share) * photograph).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    cli.run(main, Options, description=__doc__)

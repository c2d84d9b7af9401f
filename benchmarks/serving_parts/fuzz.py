"""Damaged images through `serving_default` and `fv.Verifier`: a verdict or one clear error each, time and memory bounded."""

import io
import re
import resource
import time

import numpy as np
import tensorflow as tf
from PIL import Image

import fv
from benchmarks.serving_parts import hostile
from benchmarks.serving_parts.options import BenchmarkOptions
from fv import progress
from fv.errors import UserError

_SOURCES = 12  # photographs that damaged files are made of
_TURNED = 6  # EXIF orientation
_ORIENTATION = 0x0112
_NAMED = re.compile(r"assertion failed: \[image_b\[1\] .+\]")
_TOLERANCE = 1e-5
_KIB_PER_MB = 1000


def measure(chosen: BenchmarkOptions) -> dict:
    """Counts of answers and errors, of anything else, the slowest call and the memory it took at most."""
    verifier = fv.Verifier(chosen.model)
    serve = tf.saved_model.load(chosen.model).signatures["serving_default"]
    sources = [form for image in chosen.encoded(_SOURCES) for form in _forms(image)]
    good = sources[0]
    alone = verifier.verify(good, good).similarity
    before, counts, slowest = (
        _peak_mb(),
        dict.fromkeys(("verdicts", "clear_errors", "other", "disagreements"), 0),
        0.0,
    )
    with progress.progress(chosen.mutants, "fuzz", "image") as line:
        for mutant in hostile.mutate(sources, chosen.mutants, chosen.seed):
            start = time.perf_counter()
            first, second = (
                _through_signature(serve, mutant, good, alone),
                _through_verifier(verifier, mutant, good),
            )
            slowest = max(slowest, time.perf_counter() - start)
            counts[first] += 1
            counts["disagreements"] += first != second
            line.update()
    return {
        "mutants": chosen.mutants,
        **counts,
        "slowest_seconds": round(slowest, 3),
        "memory_mb": [before, _peak_mb()],
    }


def _forms(jpeg: bytes) -> list[bytes]:
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED
    see_through = image.copy()
    see_through.putalpha(128)
    forms = [
        (image, "PNG", {}),
        (see_through, "PNG", {}),
        (image, "BMP", {}),
        (image.convert("P"), "BMP", {}),
    ]
    forms += [
        (image, "GIF", {}),
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True}),
    ]
    encoded = [io.BytesIO() for _ in forms]
    for (form, name, options), file in zip(forms, encoded, strict=True):
        form.save(file, name, **options)
    return [jpeg, *(file.getvalue() for file in encoded)]


def _through_signature(serve, mutant: bytes, good: bytes, alone: float) -> str:
    """The mutant is the second of two: an error must name it, and a verdict must leave the first's as it is."""
    try:
        similarity = serve(image_a=tf.constant([good, good]), image_b=tf.constant([good, mutant]))[
            "similarity"
        ].numpy()
    except tf.errors.InvalidArgumentError as error:
        return "clear_errors" if _NAMED.search(str(error)) else "other"
    sound = abs(similarity[0] - alone) < _TOLERANCE and np.isfinite(similarity[1])
    return "verdicts" if sound else "other"


def _through_verifier(verifier: fv.Verifier, mutant: bytes, good: bytes) -> str:
    try:
        verifier.verify(good, mutant)
    except UserError as error:
        return "clear_errors" if "\n" not in str(error) else "other"
    return "verdicts"


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB_PER_MB

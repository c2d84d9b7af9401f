import numpy as np
import pytest
import tensorflow as tf

from benchmarks import hostile_images as hostile
from fv.errors import UserError
from tests import conformance, samples

COUNT = 400


@pytest.fixture(scope="module")
def mutants():
    return list(hostile.mutate([file.data for file in conformance.files()], COUNT, seed=7))


def test_every_mutant_gets_a_verdict_or_one_line(verifier, mutants):
    good = samples.image_bytes(12, 0)
    verdicts = errors = 0
    for mutant in mutants:
        try:
            assert 0 <= verifier.verify(mutant, good).similarity <= 1
            verdicts += 1
        except UserError as error:
            assert "\n" not in str(error) and str(error).startswith(
                f"an image of {len(mutant):,} bytes"
            )
            errors += 1
    assert verdicts + errors == COUNT and verdicts > COUNT / 20 and errors > COUNT / 5


def test_a_batch_of_mutants_fails_by_the_place_of_the_first_bad_one(model, mutants):
    embed = model.signatures["embed"]
    good = samples.image_bytes(12, 0)
    alone = embed(image=tf.constant([good]))["embedding"]
    for place, mutant in enumerate(mutants[:16]):
        batch = [good] * 16
        batch[place] = mutant
        try:
            found = embed(image=tf.constant(batch))["embedding"].numpy()
        except tf.errors.InvalidArgumentError as error:
            assert f"image[{place}] " in str(error)
        else:
            others = np.delete(found, place, axis=0)
            np.testing.assert_allclose(others, np.repeat(alone, 15, axis=0), atol=1e-5)

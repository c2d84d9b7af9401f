import concurrent.futures
import threading

import numpy as np
import pytest
import tensorflow as tf

from fv.serving import merging
from tests import samples

SIDE = 4
SPEC = tf.TensorSpec([None, SIDE], tf.float32)


def merged(factor: float, name: str, most: int = 8):
    """Rows times a variable, and the sizes of the batches that went through."""
    weight, sizes = tf.Variable(factor), tf.Variable(0)

    @tf.function(input_signature=[SPEC], autograph=False)
    def encode(rows):
        sizes.assign(tf.maximum(sizes, tf.shape(rows)[0]))
        return rows * weight

    call = merging.merge(encode.get_concrete_function(), most, name)
    return tf.function(call, input_signature=[SPEC], autograph=False), sizes, weight


def call_at_once(call, values) -> list[np.ndarray]:
    """Answers to rows of each of the values, from as many threads that start together."""
    start = threading.Barrier(len(values))

    def one(value):
        start.wait()
        return call(tf.fill([2, SIDE], float(value))).numpy()

    with concurrent.futures.ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(one, values))


def test_every_caller_gets_its_own_rows_and_no_batch_is_larger_than_allowed():
    call, sizes, _ = merged(3.0, "own rows", most=8)
    for _ in range(20):
        answers = call_at_once(call, range(16))
        np.testing.assert_array_equal([answer[0, 0] for answer in answers], 3.0 * np.arange(16))
    assert 2 <= sizes.numpy() <= 8


def test_a_call_larger_than_a_batch_is_split_and_comes_back_in_order():
    call, sizes, _ = merged(2.0, "split", most=8)
    rows = np.arange(100 * SIDE, dtype=np.float32).reshape(100, SIDE)
    np.testing.assert_array_equal(call(tf.constant(rows)), 2 * rows)
    assert sizes.numpy() <= 8


def test_two_models_of_one_process_do_not_merge():
    (twice, *_), (thrice, *_) = kept = merged(2.0, "twice"), merged(3.0, "thrice")
    for _ in range(20):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            two, three = pool.map(lambda call: call_at_once(call, range(6)), (twice, thrice))
        np.testing.assert_array_equal([answer[0, 0] for answer in two], 2.0 * np.arange(6))
        np.testing.assert_array_equal([answer[0, 0] for answer in three], 3.0 * np.arange(6))
    assert len(kept) == 2


def test_a_bad_image_fails_its_own_request_alone(model):
    serve = model.signatures["serving_default"]
    images = [samples.image_bytes(identity, 0) for identity in range(12, 18)]
    wanted = [
        serve(image_a=tf.constant(images[:1]), image_b=tf.constant([image]))["similarity"][0]
        for image in images
    ]

    def one(index):
        if index % 3 == 0:
            with pytest.raises(
                tf.errors.InvalidArgumentError, match=r"image_b\[0\] is no whole JPEG"
            ):
                serve(image_a=tf.constant(images[:1]), image_b=tf.constant([images[1][:400]]))
            return 0.0
        answer = serve(image_a=tf.constant(images[:1]), image_b=tf.constant([images[index % 6]]))
        return abs(float(answer["similarity"][0] - wanted[index % 6]))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert max(pool.map(one, range(96))) < 1e-6

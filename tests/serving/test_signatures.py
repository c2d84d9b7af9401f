"""The contract of docs/serve.md: names, dtypes, shapes and meaning of inputs and outputs."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

from fv import image_ops
from fv.serving import signatures
from tests import samples
from tests.conftest import TINY
from tests.serving import making


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
        assert max(pool.map(one, range(36))) < 1e-6


ANSWERS = {
    "similarity": ([None], tf.float32),
    "probability": ([None], tf.float32),
    "distance": ([None], tf.float32),
    "same": ([None], tf.bool),
}
EMBEDDING = {"embedding": ([None, TINY.embedding_size], tf.float32)}
CONTRACT = {
    "serving_default": ({name: ([None], tf.string) for name in ("image_a", "image_b")}, ANSWERS),
    "embed": ({"image": ([None], tf.string)}, EMBEDDING),
    "compare": (dict.fromkeys(("embedding_a", "embedding_b"), EMBEDDING["embedding"]), ANSWERS),
    "embed_pixels": ({"image": ([None, None, None, 3], tf.uint8)}, EMBEDDING),
}
FORBIDDEN_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "ReadFile", "WriteFile"}


def test_names_dtypes_and_shapes_are_those_of_the_contract(model):
    found = {}
    for name, signature in model.signatures.items():
        inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
        shown = [
            {key: (spec.shape.as_list(), spec.dtype) for key, spec in part.items()}
            for part in (inputs, outputs)
        ]
        found[name] = tuple(shown)
    assert found == CONTRACT


def test_every_answer_means_what_the_contract_says(model):
    images_a = [samples.image_bytes(12, 0), samples.image_bytes(13, 0), samples.image_bytes(12, 0)]
    images_b = [samples.image_bytes(12, 1), samples.image_bytes(14, 0), samples.image_bytes(12, 0)]
    answer = model.signatures["serving_default"](
        image_a=tf.constant(images_a), image_b=tf.constant(images_b)
    )
    a, b = (
        model.signatures["embed"](image=tf.constant(images))["embedding"].numpy()
        for images in (images_a, images_b)
    )
    np.testing.assert_allclose(np.linalg.norm([a, b], axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(answer["distance"], np.linalg.norm(a - b, axis=1), atol=1e-5)
    np.testing.assert_allclose(answer["similarity"], (1 + np.sum(a * b, axis=1)) / 2, atol=1e-6)
    slope, offset = model.calibration.numpy()
    np.testing.assert_allclose(
        answer["probability"],
        1 / (1 + np.exp(-slope * answer["similarity"].numpy() - offset)),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(
        answer["same"], answer["similarity"].numpy() >= model.threshold.numpy()
    )
    compared = model.signatures["compare"](embedding_a=tf.constant(a), embedding_b=tf.constant(b))
    for name in ANSWERS:
        np.testing.assert_allclose(compared[name], answer[name], atol=1e-6)


def test_pixels_are_embedded_as_the_image_file_they_came_from(model):
    image = making.picture()
    pixels = tf.constant(np.asarray(image)[np.newaxis])
    encoded = tf.constant([making.encode(image, "PNG")])
    wanted = model.signatures["embed"](image=encoded)["embedding"]
    np.testing.assert_allclose(
        model.signatures["embed_pixels"](image=pixels)["embedding"], wanted, atol=1e-5
    )


def test_a_bad_image_is_named_by_argument_and_place(model):
    good = samples.image_bytes(12, 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image_b\[1\] is empty"):
        model.signatures["serving_default"](
            image_a=tf.constant([good] * 3), image_b=tf.constant([good, b"", good])
        )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"image\[1\] is no whole JPEG"):
        model.signatures["embed"](image=tf.constant([good, good[:300]]))


def test_batches_of_two_lengths_and_foreign_embeddings_are_refused(model):
    good = samples.image_bytes(12, 0)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="image_a and image_b differ in length"
    ):
        model.signatures["serving_default"](
            image_a=tf.constant([good]), image_b=tf.constant([good, good])
        )
    unit, long = np.eye(3, 16, dtype=np.float32), 2 * np.eye(3, 16, dtype=np.float32)
    for bad in (long, np.full_like(unit, np.nan)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"embedding_b\[0\] has length"):
            model.signatures["compare"](embedding_a=tf.constant(unit), embedding_b=tf.constant(bad))


@pytest.mark.parametrize(
    ("signature", "inputs", "said"),
    [
        ("embed", {"image": b"x"}, r"image is no batch: it has to have the shape \[batch\]"),
        ("embed", {"image": [[b"x"]]}, "image is no batch"),
        (
            "embed_pixels",
            {"image": np.zeros((1, 40, 40, 1), np.uint8)},
            r"shape \[batch, height, width, 3\]",
        ),
        (
            "compare",
            dict.fromkeys(("embedding_a", "embedding_b"), np.eye(2, 96, dtype=np.float32)),
            "is no batch",
        ),
        ("serving_default", {"image_a": [b"x"], "image_b": b"x"}, "image_b is no batch"),
        (
            "embed_pixels",
            {"image": np.zeros((8, 8, 3), np.uint8)},
            r"shape \[batch, height, width, 3\]",
        ),
        (
            "compare",
            dict.fromkeys(("embedding_a", "embedding_b"), np.ones(16, np.float32)),
            r"\[batch, 16\]",
        ),
    ],
)
def test_what_is_no_batch_is_refused_with_the_shape_that_is_wanted(model, signature, inputs, said):
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        model.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})


def test_an_empty_batch_has_an_empty_answer(model):
    nothing = tf.constant([], tf.string)
    answer = model.signatures["serving_default"](image_a=nothing, image_b=nothing)
    assert {name: values.shape.as_list() for name, values in answer.items()} == {
        name: [0] for name in ANSWERS
    }


def test_the_graph_calls_no_python_and_touches_no_file(exported):
    saved = loader_impl.parse_saved_model(str(exported))
    graphs = [meta.graph_def for meta in saved.meta_graphs]
    # The functions are what the signatures run; the graph around them restores the weights.
    ops = {
        node.op
        for graph in graphs
        for function in graph.library.function
        for node in function.node_def
    }
    assert {"DecodePng", "BatchFunction"} <= ops and not ops & FORBIDDEN_OPS
    assert CONTRACT["embed_pixels"][0]["image"][0][-1] == image_ops.CHANNELS


@pytest.fixture
def apis():
    """TensorFlow Serving's own messages."""
    pytest.importorskip("tensorflow_serving", reason="pip install 'fv[serving]'")
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    return prediction_log_pb2, predict_pb2


def test_a_request_is_what_the_real_protos_write(apis):
    prediction_logs, predictions = apis
    inputs = {
        "embedding_b": np.ones((2, 3), np.float32),
        "embedding_a": np.zeros((2, 3), np.float32),
    }
    request = predictions.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = signatures.MODEL_NAME, "compare"
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    wanted = prediction_logs.PredictionLog(predict_log=prediction_logs.PredictLog(request=request))
    written = signatures.prediction_log("compare", inputs)
    assert prediction_logs.PredictionLog.FromString(written) == wanted
    assert written == wanted.SerializeToString(deterministic=True)


def test_the_requests_of_an_export_replay_against_it(apis, exported, model):
    prediction_logs, _ = apis
    seen = []
    for data in tf.data.TFRecordDataset(str(exported / signatures.WARM_UP)):
        request = prediction_logs.PredictionLog.FromString(data.numpy()).predict_log.request
        inputs = {
            name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()
        }
        answer = model.signatures[request.model_spec.signature_name](**inputs)
        (size,) = {tensor.shape[0] for tensor in inputs.values()}
        assert all(
            values.shape[0] == size and np.all(np.isfinite(values)) for values in answer.values()
        )
        seen.append((request.model_spec.signature_name, size))
    assert len(seen) <= 1000 and set(seen) == {
        (name, size) for name in model.signatures for size in signatures.BATCH_SIZES
    }


def test_a_grpc_request_and_its_answer_survive_the_wire(apis, model):
    _, predictions = apis
    request = predictions.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "fv", "compare"
    unit = np.eye(2, 16, dtype=np.float32)
    for name, values in (("embedding_a", unit), ("embedding_b", unit[::-1])):
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    arrived = predictions.PredictRequest.FromString(request.SerializeToString())
    inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in arrived.inputs.items()}
    answer = predictions.PredictResponse()
    for name, values in model.signatures["compare"](**inputs).items():
        answer.outputs[name].CopyFrom(tf.make_tensor_proto(values))
    parsed = predictions.PredictResponse.FromString(answer.SerializeToString())
    np.testing.assert_allclose(tf.make_ndarray(parsed.outputs["similarity"]), [0.5, 0.5])
    np.testing.assert_allclose(tf.make_ndarray(parsed.outputs["distance"]), [2**0.5] * 2, rtol=1e-6)

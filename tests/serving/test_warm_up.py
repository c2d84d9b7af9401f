import numpy as np
import pytest
import tensorflow as tf

from fv.serving import warm_up


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
    request.model_spec.name, request.model_spec.signature_name = warm_up.MODEL_NAME, "compare"
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    wanted = prediction_logs.PredictionLog(predict_log=prediction_logs.PredictLog(request=request))
    written = warm_up.prediction_log("compare", inputs)
    assert prediction_logs.PredictionLog.FromString(written) == wanted
    assert written == wanted.SerializeToString(deterministic=True)


def test_the_requests_of_an_export_replay_against_it(apis, exported, model):
    prediction_logs, _ = apis
    signatures = model.signatures
    seen = []
    for data in tf.data.TFRecordDataset(str(exported / warm_up.PATH)):
        request = prediction_logs.PredictionLog.FromString(data.numpy()).predict_log.request
        inputs = {
            name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()
        }
        answer = signatures[request.model_spec.signature_name](**inputs)
        (size,) = {tensor.shape[0] for tensor in inputs.values()}
        assert all(
            values.shape[0] == size and np.all(np.isfinite(values)) for values in answer.values()
        )
        seen.append((request.model_spec.signature_name, size))
    assert len(seen) <= 1000 and set(seen) == {
        (name, size) for name in signatures for size in warm_up.BATCH_SIZES
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

import pathlib

import pytest
from google.protobuf import text_format

CONFIGS = pathlib.Path(__file__).parent.parent.parent / "configs" / "serving"


def test_the_model_config_parses_into_the_real_proto():
    pytest.importorskip("tensorflow_serving", reason="pip install 'fv[serving]'")
    from tensorflow_serving.config import model_server_config_pb2

    text = (CONFIGS / "models.config").read_text()
    (model,) = text_format.Parse(
        text, model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert (model.name, model.base_path, model.model_version_policy.latest.num_versions) == (
        "fv",
        "/models/fv",
        2,
    )

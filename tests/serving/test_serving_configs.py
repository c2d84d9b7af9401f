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


def test_containers_start_the_service_with_flags_that_it_has():
    yaml = pytest.importorskip("yaml")
    from fv import cli
    from fv.serve import ServeOptions

    compose = yaml.safe_load((CONFIGS / "compose.yaml").read_text())["services"]["fv"]
    kserve = yaml.safe_load((CONFIGS / "kserve.yaml").read_text())
    (container,) = kserve["spec"]["predictor"]["containers"]
    for arguments in (compose["command"], container["args"]):
        values, rest = cli.parse(ServeOptions, ["fv.serve", *arguments])
        assert values["model"].value == "/export" and not rest
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in kserve["spec"]["predictor"]["volumes"]}

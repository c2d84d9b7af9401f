import dataclasses
import pathlib

import pytest
from absl import flags

from fv import options
from fv.training import feeding
from fv.training.options import TrainOptions

ROOT = pathlib.Path(__file__).parent.parent
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.flags"))


def resolved(name: str) -> TrainOptions:
    values = flags.FlagValues()
    options.define_flags(TrainOptions, values)
    values(["fv-train", f"--flagfile=configs/{name}", "--tfrecords=DIR", "--workdir=DIR"])
    return options.from_flags(TrainOptions, values)


def test_there_is_a_flagfile_for_each_way_of_running():
    lfw = ("lfw", "lfw_cpu", "lfw_light", "lfw_student")
    devices, stages = ("mixed_precision", "multi_gpu", "multi_worker"), ("pairs", "pretrain")
    expected = ("augmentation", *lfw, *devices, *stages, "quickstart", "tpu")
    assert [f"{name}.flags" for name in expected] == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_every_flagfile_states_purpose_and_expectation_and_resolves(name, monkeypatch):
    monkeypatch.chdir(ROOT)  # nested flagfiles resolve from the current folder
    header = (ROOT / "configs" / name).read_text().split("\n\n", 1)[0].splitlines()
    assert 3 <= len(header) <= 5 and all(line.startswith("# ") for line in header)
    assert any(line.startswith("# Expected: ") for line in header[1:])
    assert any(line.startswith("# Override: ") for line in header[2:])
    assert isinstance(resolved(name), TrainOptions)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_accepts_the_flags_of_every_flagfile(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    chosen = resolved(name)
    for part in (chosen.input, chosen.teaching, chosen.compute):
        part.check()
    feeding.check_flags(chosen)


def test_derived_flagfiles_state_their_differences_only(monkeypatch):
    monkeypatch.chdir(ROOT)
    lfw, base = resolved("lfw.flags"), resolved("quickstart.flags")
    assert (
        lfw.model.feature_layer == base.model.feature_layer
        and lfw.model.crop_fraction != base.model.crop_fraction
    )
    pretrain, pairs = resolved("pretrain.flags"), resolved("pairs.flags")
    assert (pretrain.model.head, pairs.model.head) == ("softmax", "sigmoid")
    assert (
        dataclasses.replace(pairs.model, head="softmax") == pretrain.model
    )  # so that all but the head is taken over
    assert (
        resolved("multi_worker.flags").sync_batch_norm
        and resolved("tpu.flags").compute.strategy == "tpu"
    )

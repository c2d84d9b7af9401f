"""Tests of tools/demo.py."""

import json
import pathlib

import pytest

TINY_FLAGS = """
# the demonstration's stages on a backbone that trains in seconds
--backbone=tiny
--image_size=32
--batch_norm_momentum=0.9
--global_batch_size=16
--steps=40
--learning_rate=3e-3
--validate_every=0
"""


@pytest.mark.slow
def test_the_demonstration_goes_through_every_stage_and_shows_its_commands(command, tmp_path):
    flagfile, output = tmp_path / "tiny.flags", tmp_path / "demo"
    flagfile.write_text(TINY_FLAGS)
    sizes = ["--identities=40", "--images_per_identity=4", "--pairs=300"]
    done = command(
        "tools/demo.py", f"--output={output}", f"--flagfile_of_training={flagfile}", *sizes
    )
    assert done.returncode == 0, done.stderr
    for stage in (
        "make_faces.py",
        "make_tfrecords.py",
        "fv.train",
        "fv.evaluate",
        "fv.export",
        "fv.verify",
    ):
        assert f"{stage} " in done.stdout
    assert done.stdout.count("similarity") >= 2 and "accuracy" in done.stdout
    figures = json.loads((output / "run" / "metrics.json").read_text())
    assert figures["auc"] > 0.5 and pathlib.Path(output, "export", "1", "saved_model.pb").exists()

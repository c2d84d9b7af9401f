import pathlib
import shutil

import pytest

from fv.errors import UserError
from fv.model import model_record, restoring


def test_the_last_checkpoint_comes_back_with_its_step(trained):
    model, step = restoring.load_model(trained.workdir, model_record.load(trained.workdir))
    assert step == trained.steps and model.encoder.output_shape == (None, trained.model.embedding_size)


def test_a_checkpoint_cut_short_is_refused_in_one_line(trained, tmp_path):
    workdir = shutil.copytree(trained.workdir, tmp_path / "run")
    (data,) = pathlib.Path(workdir, "checkpoints").glob("ckpt-30.data*")
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(UserError, match="ckpt-30 is damaged or of another model") as error:
        restoring.load_model(str(workdir), model_record.load(str(workdir)))
    assert "\n" not in str(error.value)


def test_a_workdir_without_checkpoints_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        restoring.load_model(str(tmp_path), model_record.load(trained.workdir))

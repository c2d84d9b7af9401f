import collections
import shutil

import pytest

from fv import record
from fv.errors import UserError
from fv.pipeline import damage
from tests.pipeline import services
from tests.pipeline.services import drawn
from tests.pipeline.streams import source_of


@pytest.fixture(scope="module")
def running():
    with services.running() as started:
        yield started


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_record_that_a_worker_meets_is_one_line_here(shards, running, tmp_path, harm):
    folder = shutil.copytree(shards, tmp_path / "broken")
    path = sorted(folder.glob("train-*"))[1]
    data = path.read_bytes()
    with open(path, "rb") as file:
        last = [offset for offset, _ in record.read_frames(file)][-1]
    path.write_bytes(data[:last] if harm == "cut" else data[: last + 50] + bytes([data[last + 50] ^ 1]) + data[last + 51 :])
    source = source_of(folder)
    with pytest.raises(UserError) as error, damage.reported(source.folder, source.split.shards):
        collections.deque(drawn(source, running[0], epochs=1), maxlen=0)
    assert f"{path}: record " in str(error.value) and f" at byte {last}: " in str(error.value)
    assert "\n" not in str(error.value)

import errno
import os
import pathlib
import pickle
import subprocess
import sys

import pytest

from fv.conversion import convert, options
from fv.errors import TemporaryError, UserError
from tests.conversion import making
from tests.samples import digests

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")

DIRECT = "--direct_num_workers=2 --direct_running_mode=multi_processing"
DASK_CLUSTER = """
import subprocess, sys
from dask.distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        options = f"--runner_options=--dask_client_address={cluster.scheduler_address}"
        sys.exit(subprocess.run([*sys.argv[1:], "--runner=DaskRunner", options]).returncode)
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """30 people of 4 images, some of which have to be written anew, one bad, one there twice."""
    folder = making.crowd(tmp_path_factory.mktemp("crowd"), identities=30, images=4)
    for index in range(5):
        (folder / f"p{index:03d}" / "grey picture.pgm").write_bytes(
            making.encode(making.grey(index), "PPM")
        )
    (folder / "p009" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "p010" / "twice.jpg").write_bytes((folder / "p011" / "p011_0001.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module")
def local(images, tmp_path_factory):
    """What a local run makes of them."""
    folder = tmp_path_factory.mktemp("local") / "out"
    convert.convert(options.ConvertOptions(str(images), str(folder), shards=6, store_size=20))
    return folder


def assert_same(folder: pathlib.Path, local: pathlib.Path) -> None:
    assert digests(folder) == digests(local)
    assert sorted(os.listdir(folder)) == sorted(os.listdir(local))
    assert (folder / "left_out.csv").read_text() == (local / "left_out.csv").read_text()


@pytest.mark.slow
def test_the_direct_runner_writes_the_bytes_of_a_local_run(images, local, tmp_path):
    workers = dict(runner="DirectRunner", runner_options=DIRECT)
    convert.convert(
        options.ConvertOptions(str(images), str(tmp_path), shards=6, store_size=20, **workers)
    )
    assert_same(tmp_path, local)


@pytest.mark.slow
def test_a_dask_cluster_of_two_workers_writes_the_bytes_of_a_local_run(images, local, tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "cluster.py").write_text(DASK_CLUSTER)
    tool = pathlib.Path(__file__).parents[2] / "tools" / "make_tfrecords.py"
    command = [
        tool,
        f"--images={images}",
        f"--output={tmp_path / 'out'}",
        "--shards=6",
        "--store_size=20",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tool.parents[1])}
    subprocess.run(
        [sys.executable, tmp_path / "cluster.py", sys.executable, *command],
        env=environment,
        check=True,
    )
    assert_same(tmp_path / "out", local)


@pytest.mark.slow
def test_remote_paths_are_read_and_written_by_tensorflow(images, local, tmp_path):
    chosen = options.ConvertOptions(
        f"file://{images}", f"file://{tmp_path}/out", shards=6, store_size=20
    )
    convert.convert(chosen)
    assert_same(tmp_path / "out", local)


def test_what_a_task_ends_in_is_told_as_in_a_local_run(images, tmp_path):
    chosen = options.ConvertOptions(str(images), str(tmp_path), strict=True, runner="DirectRunner")
    with pytest.raises(UserError, match="p009/broken.jpg: damaged JPEG"):
        convert.convert(chosen)


def test_a_runner_that_is_not_there_is_one_line(images, tmp_path):
    with pytest.raises(UserError, match="--runner=NoRunner failed"):
        convert.convert(options.ConvertOptions(str(images), str(tmp_path), runner="NoRunner"))


def fail(task):
    raise TemporaryError(task)


def test_a_temporary_error_of_a_task_stays_temporary(tmp_path):
    from fv.conversion import beam

    runner = beam.Runner("DirectRunner", [], str(tmp_path))
    with pytest.raises(TemporaryError, match="^one$"):
        list(runner.map(fail, ["one", "two"]))


def test_tasks_that_cannot_be_read_are_not_taken_for_none(tmp_path, monkeypatch):
    from fv.conversion import beam

    def stale(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)

    (tmp_path / "0.tasks").write_bytes(pickle.dumps(["one"]))
    with monkeypatch.context() as patch:
        patch.setattr(beam, "_load", stale)
        with pytest.raises(OSError, match="0.tasks"):
            beam.run_group(0, str, str(tmp_path))
        assert not (tmp_path / "0.results").exists()
        runner = beam.Runner("DirectRunner", [], str(tmp_path))
        with pytest.raises(TemporaryError, match="--runner=DirectRunner failed"):
            list(runner.map(str, ["one"]))

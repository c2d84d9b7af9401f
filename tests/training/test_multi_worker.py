import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

FLAGS = (
    "--strategy=multi_worker --backbone=tiny --image_size=32 --steps=4 --log_every=2 --global_batch_size=8 --sync_batch_norm"
)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("localhost", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@pytest.mark.slow
def test_two_workers_train_one_model_and_only_the_chief_writes_it(shards, tmp_path):
    workers = [f"localhost:{port}" for port in free_ports(2)]
    running = []
    for index in range(2):
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        arguments = [
            sys.executable,
            "-m",
            "fv.train",
            f"--tfrecords={shards}",
            f"--workdir={tmp_path / 'run'}",
            *FLAGS.split(),
        ]
        environment = os.environ | {"TF_CONFIG": json.dumps(cluster)}
        running.append(
            subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    said = [process.communicate(timeout=180)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert "step 4: val accuracy" in said[0] and said[1] == ""
    assert tf.train.latest_checkpoint(str(tmp_path / "run" / "checkpoints")).endswith("ckpt-4")
    assert len(list(pathlib.Path(tmp_path, "run", "tensorboard").iterdir())) == 1

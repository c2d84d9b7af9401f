"""The input benchmark: peers that do the same work, rounds, sections, figures."""

import dataclasses
import itertools
import json
import multiprocessing

import numpy as np
import pytest
import simplejpeg

from benchmarks import input_pipeline
from benchmarks.side_by_side import peers, rounds, workload
from benchmarks.side_by_side.rounds import Entrant
from benchmarks.side_by_side.workload import Workload
from fv import cli, manifest, record
from fv.errors import UserError
from tests import samples

IMAGES, STORED_SIDE = 16, 48


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Workload:
    """Batches of 4 pairs. It has one core: with several an epoch may end out of order."""
    folder = tmp_path_factory.mktemp("work")
    faces = samples.write_images(
        folder / "faces", identities=4, images=IMAGES // 4, side=STORED_SIDE
    )
    work = Workload(str(folder / "work"), side=32, batch_size=4, cores=1, shuffle_buffer=4)
    workload.write_images(str(faces), work, IMAGES)
    workload.convert_pairs(work)
    workload.save(work)
    return work


def draw_epoch(name, work):
    """The images [16, side, side, 3] of the first epoch, from a contestant that is installed."""
    try:
        batches = getattr(peers, name)()
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    drawn = [
        np.asarray(batch)
        for batch in itertools.islice(batches(work), IMAGES // 2 // work.batch_size)
    ]
    assert {batch.shape for batch in drawn} == {(work.batch_size, 2, work.side, work.side, 3)}
    assert {batch.dtype for batch in drawn} == {np.dtype(np.uint8)}
    return np.concatenate(drawn).reshape(-1, work.side, work.side, 3)


@pytest.mark.parametrize("name", (peers.FV, *peers.PEERS))
def test_a_peer_yields_each_image_once_an_epoch_with_the_same_pixels(name, work):
    drawn = draw_epoch(name, work)
    expected = [peers.load_image(path.read_bytes(), work.side) for path in work.image_paths()]
    far = np.array(
        [[np.abs(image.astype(float) - one).mean() for one in expected] for image in drawn]
    )
    assert sorted(far.argmin(axis=1)) == list(range(IMAGES))
    assert np.abs(drawn - np.array(expected)[far.argmin(axis=1)].astype(float)).max() <= 1


def test_indexed_shards_cut_out_what_the_records_hold(work):
    shards, pairs = peers.IndexedShards(work), []
    for path in work.shard_paths():
        with open(path, "rb") as file:
            pairs += [record.decode_pair(data) for _, data in record.read_frames(file)]
    found = [tuple(map(bytes, shards.encoded(pair))) for pair in range(len(shards))]
    assert found == [(pair[record.IMAGE_A], pair[record.IMAGE_B]) for pair in pairs]


def test_shuffled_batches_run_across_the_ends_of_epochs_and_lose_nothing():
    drawn = np.concatenate(list(itertools.islice(peers.shuffled_batches(10, 4), 5)))
    assert sorted(drawn) == sorted([*range(10), *range(10)])
    assert sorted(drawn[:10]) == list(range(10)) and list(drawn[:10]) != list(range(10))


def figures(rate: float) -> dict:
    result = dict.fromkeys(rounds.MEASURED, 1.0) | {
        "images_per_s": rate,
        "images_per_cpu_s": rate / 2,
        "dtype": "uint8",
    }
    return rounds.summarise(
        [result, result | {"images_per_s": rate + 2}, result | {"images_per_s": rate - 5}]
    )


@pytest.fixture
def runs():
    given = {
        "ceiling": figures(1000),
        "fv_pipeline": figures(900),
        "threads": figures(800),
        "fused_map": figures(600),
    }
    input_pipeline.add_shares(given)
    return given


@pytest.fixture
def without_torch(tmp_path, monkeypatch):
    """A folder on the path where `import torch` fails as it does where torch is not installed."""
    (tmp_path / "torch.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.slow
def test_missing_peers_are_named_and_the_others_run(work, without_torch):
    entrants = {name: Entrant(name, work) for name in ("torch_batches", "threads", "ceiling")}
    ran, absent = rounds.run(entrants, rounds=2, seconds=0.1, warm_up_s=0.0)
    assert absent == {"torch_batches": "torch is not installed"}
    assert set(ran) == {"threads", "ceiling"} and ran["threads"]["runs"] == 2
    assert ran["threads"]["dtype"] == "uint8" and ran["threads"]["images_per_s"]["median"] > 0


def test_a_contestant_that_breaks_gives_its_last_words(work, tmp_path):
    moved = dataclasses.replace(work, folder=str(tmp_path))
    _, absent = rounds.run(
        {"threads": Entrant("threads", moved)}, rounds=2, seconds=0.1, warm_up_s=0.0
    )
    assert "holds no manifest.json" in absent["threads"]


def test_a_ceiling_counts_what_its_processes_load(work):
    found = peers.compete("ceiling", work, seconds=0.3, warm_up_s=0.1)
    assert found["images_per_s"] > 100 and found["images_per_cpu_s"] > 100
    assert not multiprocessing.active_children()  # they would take the cores from what comes next


def test_a_summary_has_the_median_and_the_spread():
    assert figures(100)["images_per_s"] == {"median": 100, "min": 95, "max": 102}


def test_ratios_compare_fv_with_the_ceiling_and_the_best_peer(runs):
    assert input_pipeline.find_ratios("original", runs) == {
        "fv_over_ceiling": 0.9,
        "best_peer": "threads",
        "fv_over_best_peer": 1.125,
    }
    assert (
        runs["threads"]["share_of_ceiling"] == 0.8
        and runs["threads"]["cpu_share_of_ceiling"] == 0.8
    )


def test_ratios_also_compare_with_peers_on_the_original_images(runs):
    runs["torch_batches" + input_pipeline.ON_ORIGINALS] = figures(300)
    input_pipeline.add_shares(runs)
    found = input_pipeline.find_ratios("stored", runs)
    assert found["fv_over_best_peer_on_originals"] == found["fv_over_torch_on_originals"] == 3.0
    assert (
        runs["torch_batches" + input_pipeline.ON_ORIGINALS]["share_of_ceiling"] is None
    )  # the ceiling is that of small images


def test_ratios_leave_out_what_did_not_run(runs):
    assert input_pipeline.find_ratios("original", {"fv_pipeline": runs["fv_pipeline"]}) == {}


def test_the_table_and_the_chart_show_every_entrant(runs, tmp_path):
    assert [line.split("  ")[0] for line in input_pipeline.format_table(runs)[1:]] == [
        input_pipeline.title(name) for name in runs
    ]
    input_pipeline.draw_chart(str(tmp_path / "chart.png"), runs, "a title")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_images_can_be_made_smaller_and_encoded_anew(work, tmp_path):
    small = dataclasses.replace(work, folder=str(tmp_path))
    workload.write_images(work.images, small, count=3, side=24, quality=70)
    assert [
        simplejpeg.decode_jpeg_header(path.read_bytes())[:2] for path in small.image_paths()
    ] == [(24, 24)] * 3


def test_too_few_images_are_a_user_error(work, tmp_path):
    with pytest.raises(UserError, match="holds 16 images PERSON/"):
        workload.write_images(
            work.images, dataclasses.replace(work, folder=str(tmp_path)), count=17
        )


def test_every_image_is_in_as_many_pairs_as_asked(work, tmp_path):
    many = dataclasses.replace(work, folder=str(tmp_path))
    workload.write_images(work.images, many, count=16)
    workload.convert_pairs(many, rounds=3)
    assert 16 < manifest.load(many.shards).split("train").pairs <= 24
    assert manifest.load(work.shards).split("train").pairs == 8


def test_a_workload_is_read_back_as_it_was_saved(work, tmp_path):
    moved = dataclasses.replace(work, folder=str(tmp_path), cache="decoded")
    assert workload.load(workload.save(moved)) == moved


def test_synthetic_shards_hold_as_many_sound_records_as_asked(tmp_path):
    folder = str(tmp_path / "shards")
    workload.write_synthetic_shards(folder, shards=3, records=360)
    split = manifest.load(folder).split("train")
    assert split.pairs == 360 and len(split.shards) == 3
    with open(tmp_path / "shards" / split.shards[1].name, "rb") as file:
        pairs = [record.decode_pair(data) for _, data in record.read_frames(file)]
    assert len(pairs) == 120 and pairs[0] == pairs[100] != pairs[1]


def test_the_sections_name_known_contestants(work, tmp_path):
    options = input_pipeline.BenchmarkOptions(work.images, count=8, stored_size=24)
    for section in ("original", "stored", "cached"):
        entrants = input_pipeline.list_entrants(section, options, str(tmp_path), peers.PEERS)
        assert {entrant.name for entrant in entrants.values()} <= peers.TITLES.keys()
        assert all(np.isfinite(workload.mean_bytes(entrant.work)) for entrant in entrants.values())


@pytest.mark.slow
def test_the_benchmark_writes_figures_and_a_chart(command, tmp_path):
    images = samples.write_images(tmp_path / "faces", identities=4, images=4, side=48)
    flags = [
        "--count=16",
        "--image_size=32",
        "--batch_size=4",
        "--rounds=1",
        "--seconds=0.2",
        "--warm_up=0",
    ]
    outputs = [f"--json={tmp_path / 'figures.json'}", f"--chart={tmp_path / 'chart.png'}"]
    choice = ["--sections=original", "--only=threads"]
    done = command("benchmarks/input_pipeline.py", f"--images={images}", *flags, *choice, *outputs)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (
        figures["original"]["ratios"]["best_peer"] == "threads" and figures["machine"]["cores"] >= 1
    )
    assert (tmp_path / "chart.png").exists() and "hard ceiling" in done.stdout


def test_an_unknown_peer_is_one_line(call, tmp_path):
    flags = [f"--images={tmp_path}", "--only=threads,no_such"]
    done = call(lambda: cli.run(input_pipeline.main, input_pipeline.BenchmarkOptions), *flags)
    assert done.returncode == 2 and "no_such" in done.stderr and done.stderr.count("\n") == 1

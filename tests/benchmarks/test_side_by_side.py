"""Rounds, workloads and sections of the side-by-side run."""

import dataclasses
import multiprocessing

import numpy as np
import pytest
import simplejpeg

from benchmarks.side_by_side import (
    chart,
    contestant,
    preparing,
    ratios,
    rounds,
    sections,
    synthetic,
    table,
    workload,
)
from benchmarks.side_by_side.rounds import Entrant
from fv import manifest, record
from fv.errors import UserError


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
    ratios.add_shares(given)
    return given


@pytest.fixture
def without_torch(tmp_path, monkeypatch):
    """A folder on the path where `import torch` fails as it does where torch is not installed."""
    (tmp_path / "torch.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


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
    found = contestant.compete("ceiling", work, seconds=0.3, warm_up_s=0.1)
    assert found["images_per_s"] > 100 and found["images_per_cpu_s"] > 100
    assert not multiprocessing.active_children()  # they would take the cores from what comes next


def test_a_summary_has_the_median_and_the_spread():
    assert figures(100)["images_per_s"] == {"median": 100, "min": 95, "max": 102}


def test_ratios_compare_fv_with_the_ceiling_and_the_best_peer(runs):
    assert ratios.find("original", runs) == {
        "fv_over_ceiling": 0.9,
        "best_peer": "threads",
        "fv_over_best_peer": 1.125,
    }
    assert (
        runs["threads"]["share_of_ceiling"] == 0.8
        and runs["threads"]["cpu_share_of_ceiling"] == 0.8
    )


def test_ratios_also_compare_with_peers_on_the_original_images(runs):
    runs["torch_batches" + sections.ON_ORIGINALS] = figures(300)
    ratios.add_shares(runs)
    found = ratios.find("stored", runs)
    assert found["fv_over_best_peer_on_originals"] == found["fv_over_torch_on_originals"] == 3.0
    assert (
        runs["torch_batches" + sections.ON_ORIGINALS]["share_of_ceiling"] is None
    )  # the ceiling is that of small images


def test_ratios_leave_out_what_did_not_run(runs):
    assert ratios.find("original", {"fv_pipeline": runs["fv_pipeline"]}) == {}


def test_the_table_and_the_chart_show_every_entrant(runs, tmp_path):
    assert [line.split("  ")[0] for line in table.lines(runs)[1:]] == [
        table.title(name) for name in runs
    ]
    chart.draw(str(tmp_path / "chart.png"), runs, "a title")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_images_can_be_made_smaller_and_encoded_anew(work, tmp_path):
    small = dataclasses.replace(work, folder=str(tmp_path))
    preparing.write_images(work.images, small, count=3, side=24, quality=70)
    assert [
        simplejpeg.decode_jpeg_header(path.read_bytes())[:2] for path in small.image_paths()
    ] == [(24, 24)] * 3


def test_too_few_images_are_a_user_error(work, tmp_path):
    with pytest.raises(UserError, match="holds 16 images PERSON/"):
        preparing.write_images(
            work.images, dataclasses.replace(work, folder=str(tmp_path)), count=17
        )


def test_every_image_is_in_as_many_pairs_as_asked(work, tmp_path):
    many = dataclasses.replace(work, folder=str(tmp_path))
    preparing.write_images(work.images, many, count=16)
    preparing.convert_pairs(many, rounds=3)
    assert 16 < manifest.load(many.shards).split("train").pairs <= 24
    assert manifest.load(work.shards).split("train").pairs == 8


def test_a_workload_is_read_back_as_it_was_saved(work, tmp_path):
    moved = dataclasses.replace(work, folder=str(tmp_path), cache="decoded")
    assert workload.load(workload.save(moved)) == moved


def test_synthetic_shards_hold_as_many_sound_records_as_asked(tmp_path):
    folder = str(tmp_path / "shards")
    synthetic.write_shards(folder, shards=3, records=360)
    split = manifest.load(folder).split("train")
    assert split.pairs == 360 and len(split.shards) == 3
    with open(tmp_path / "shards" / split.shards[1].name, "rb") as file:
        pairs = [record.decode_pair(data) for _, data in record.read_frames(file)]
    assert len(pairs) == 120 and pairs[0] == pairs[100] != pairs[1]


def test_the_sections_name_known_contestants(work, tmp_path):
    source = sections.Source(work.images, 8, None, str(tmp_path), work)
    known = {*sections.PEERS, sections.FV, *contestant.CEILINGS}
    for section in ("original", "stored", "cached"):
        entrants = sections.entrants(section, source, list(sections.PEERS), 24)
        assert {entrant.name for entrant in entrants.values()} <= known
        assert all(np.isfinite(workload.mean_bytes(entrant.work)) for entrant in entrants.values())

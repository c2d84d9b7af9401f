import pathlib

import pytest

from fv.errors import UserError
from fv.sweeping import plan
from fv.sweeping.options import SweepOptions
from tests.sweeping import making

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_every_variant_has_its_first_seed_before_any_has_its_second(tmp_path):
    runs = plan.plan(making.options(tmp_path, first_seed=5))
    assert [(run.variant, run.seed) for run in runs] == [
        ("plain", 5),
        ("cutout", 5),
        ("plain", 6),
        ("cutout", 6),
    ]
    assert [run.training.seed for run in runs] == [5, 5, 6, 6]
    assert [run.training.augmentation.cutout for run in runs] == [0.0, 0.3, 0.0, 0.3]
    assert all(run.training.steps == 30 for run in runs)
    assert len({run.workdir for run in runs}) == 4


def test_a_seed_s_place_in_flags_gives_each_seed_a_teacher_or_first_weights_of_its_own(tmp_path):
    path = tmp_path / "some.variants"
    path.write_text("plain:\nfirst: --init_weights=runs/first_{seed}/plain\n")
    flags = "--teacher=runs/light/seed_{seed}"
    runs = plan.plan(making.options(tmp_path, variants=str(path), train_flags=flags, first_seed=7))
    assert [run.training.teaching.teacher for run in runs] == [
        f"runs/light/seed_{seed}" for seed in (7, 7, 8, 8)
    ]
    assert [run.training.init_weights for run in runs] == [
        "none",
        "runs/first_7/plain",
        "none",
        "runs/first_8/plain",
    ]
    assert "--teacher=runs/light/seed_8" in runs[3].train_command


def test_the_evaluation_takes_the_sweep_s_shards_unless_its_flags_name_pairs(tmp_path):
    first = plan.plan(making.options(tmp_path))[0].evaluation
    assert (first.tfrecords, first.split) == ("shards", "test")
    flags = "--images=lfw --pairs_file=pairs.txt --threshold_tfrecords=shards"
    listed = plan.plan(making.options(tmp_path, evaluate_flags=flags))[0].evaluation
    assert (listed.tfrecords, listed.pairs_file) == (None, "pairs.txt")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("bad: --cutout=2", "--cutout"),
        ("bad: --no_such_flag=1", "no_such_flag"),
        ("bad: --flip --seed=3", "--seed is given by the sweep"),
        ("bad: --cutout=0.0", "'bad' trains as 'plain' does"),
    ],
)
def test_flags_that_do_not_do_are_named_with_their_line_before_anything_is_trained(
    tmp_path, line, said
):
    path = tmp_path / "some.variants"
    path.write_text(f"plain:\n{line}\n")
    with pytest.raises(UserError) as error:
        plan.plan(making.options(tmp_path, variants=str(path)))
    assert f"{path}, line 2: " in str(error.value) and said in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(train_flags="--steps=many"), "--train_flags: "),
        (dict(train_flags="--workdir=here"), "--workdir is given by the sweep"),
        (dict(evaluate_flags="--split=none"), "--evaluate_flags: "),
        (dict(evaluate_flags="--pairs_file=pairs.txt"), "--images is missing"),
    ],
)
def test_flags_of_all_runs_are_checked_too(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        plan.plan(making.options(tmp_path, variants=None, **change))


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").glob("*.variants")), ids=lambda path: path.name
)
def test_every_file_of_variants_here_resolves(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    chosen = SweepOptions(
        "shards",
        "out",
        train_flags="--flagfile=configs/augmentation.flags",
        variants=str(path),
        seeds=1,
    )
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert [run.variant for run in plan.plan(chosen)] == [line.partition(":")[0] for line in lines]

import pytest

from fv import cpu_quota, workers


@pytest.mark.parametrize(
    ("said", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("20000 100000\n", 1), ("max 100000\n", None)],
)
def test_a_quota_is_rounded_up_to_whole_cores(tmp_path, said, cores):
    (tmp_path / "cpu.max").write_text(said)
    assert cpu_quota.cores(str(tmp_path)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000\n", 3), ("-1\n", None)])
def test_the_older_control_groups_say_it_in_two_files(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota.cores(str(tmp_path)) == cores


def test_a_machine_without_control_groups_has_no_quota(tmp_path):
    assert cpu_quota.cores(str(tmp_path)) is None


def test_the_cores_are_the_least_of_what_is_named_and_the_quota(monkeypatch):
    named = workers.cores()
    monkeypatch.setattr(cpu_quota, "cores", lambda: 1)
    assert workers.cores() == 1
    monkeypatch.setattr(cpu_quota, "cores", lambda: named + 5)
    assert workers.cores() == named

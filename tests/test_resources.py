import psutil
import pytest

from fv import resources
from fv.errors import UserError


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """An empty folder of control groups, on a machine of eight cores and 1 GB."""
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(8)), raising=False)
    memory = psutil.virtual_memory()._replace(available=1_000_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("900000 100000\n", 8),
        ("max 100000\n", 8),
    ],
)
def test_a_quota_is_rounded_up_and_limits_the_cores(cgroup, quota, cores):
    (cgroup / "cpu.max").write_text(quota)
    assert resources.cores(str(cgroup)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("300000\n", 3), ("-1\n", 8)])
def test_cgroup_v1_has_the_quota_in_two_files(cgroup, quota, cores):
    (cgroup / "cpu").mkdir()
    (cgroup / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (cgroup / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert resources.cores(str(cgroup)) == cores


def test_without_control_groups_the_machine_is_the_limit(cgroup):
    assert resources.cores(str(cgroup)) == 8
    assert resources.available_memory(str(cgroup)) == 1_000_000_000


@pytest.mark.parametrize(("limit", "left"), [("1000000\n", 700_000), ("max\n", 1_000_000_000)])
def test_memory_is_the_least_of_machine_and_control_group(cgroup, limit, left):
    (cgroup / "memory.max").write_text(limit)
    (cgroup / "memory.current").write_text("400000\n")
    (cgroup / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert resources.available_memory(str(cgroup)) == left


def test_cgroup_v1_counts_the_page_cache_as_free_too(cgroup):
    (cgroup / "memory").mkdir()
    (cgroup / "memory" / "memory.limit_in_bytes").write_text("1000000\n")
    (cgroup / "memory" / "memory.usage_in_bytes").write_text("400000\n")
    (cgroup / "memory" / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 100000\n")
    assert resources.available_memory(str(cgroup)) == 700_000


def test_a_cache_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(resources, "available_memory", lambda: 100 << 20)
    resources.check_fits("--cache=encoded", 80 << 20, "5 records")
    with pytest.raises(UserError, match="needs 81 MiB for 5 records, more than 80% of the 100 MiB"):
        resources.check_fits("--cache=encoded", 81 << 20, "5 records")

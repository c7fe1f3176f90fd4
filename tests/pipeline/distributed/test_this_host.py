"""Memory of a container, by the files of its cgroup."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from cluster.doctor.host import check_host
from cluster.local.start import memory_parameters
from pipeline.distributed.this_host import available_memory, host_memory

MIB = 2**20
GIB = 2**30


def write_cgroup(folder: Path, version: int, limit: object, usage: int, cached: int) -> None:
    names = [("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current")]
    prefix = "total_" if version == 1 else ""
    statistics = f"anon 1\n{prefix}active_file {cached // 2}\n{prefix}inactive_file {cached // 2}"
    values = (limit, usage, statistics)
    for name, value in zip((*names[version - 1], "memory.stat"), values, strict=True):
        (folder / name).write_text(f"{value}\n", encoding="ascii")


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which this process finds the files of its cgroup."""
    from pipeline.distributed import this_host

    files = tuple((str(tmp_path), *names) for _, *names in this_host._MEMORY_FILES)
    monkeypatch.setattr(this_host, "_MEMORY_FILES", files)
    return tmp_path


@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_that_of_the_container(version: int, cgroup: Path) -> None:
    write_cgroup(cgroup, version, limit=GIB, usage=700 * MIB, cached=200 * MIB)
    assert (host_memory(), available_memory()) == (GIB, (1024 - 500) * MIB)


@pytest.mark.parametrize(("version", "limit"), [(1, 9223372036854771712), (2, "max"), (2, "")])
def test_memory_is_that_of_the_host_without_a_limit(version: int, limit: object, cgroup: Path) -> None:
    write_cgroup(cgroup, version, limit, usage=GIB, cached=0)
    assert host_memory() == psutil.virtual_memory().total
    assert available_memory() > 0


def test_doctor_and_local_cluster_keep_to_the_memory_of_the_container(cgroup: Path) -> None:
    """In a pod, the memory of the node is mostly that of others: nodes of Ray would be killed."""
    write_cgroup(cgroup, 2, limit=GIB, usage=512 * MIB, cached=0)
    (memory,) = [check for check in check_host(Path(), cgroup) if check.name == "memory"]
    assert memory.level == "warn" and memory.message == "0.5 of 1.0 GiB free"
    parameters = memory_parameters(2)
    assert sum(parameters.values()) * 2 <= 512 * MIB

"""What `melray doctor` says of good and of bad things. No cluster is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.cli import run
from cluster.connection.nodes import amounts, describe_node, parse_node, sums
from cluster.doctor.check import Check, ok, report, warn
from cluster.doctor.cluster import check_access, check_clock, check_nodes
from cluster.doctor.machine import (
    check_decoding,
    check_disk,
    check_memory,
    check_packages,
    check_shared_memory,
)
from cluster.doctor.storage import SIZE, Store, check_storage

GIB = 2**30


def levels(*checks: Check) -> list[str]:
    return [check.level for check in checks]


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_the_report_says_what_to_do() -> None:
    text = report([ok("python", "3.11.7"), warn("shared memory", "0.1 GiB free", "docker run --shm-size=8g")])
    assert text.splitlines() == [
        "ok    python         3.11.7",
        "warn  shared memory  0.1 GiB free",
        "                     -> docker run --shm-size=8g",
    ]


def test_packages_against_what_is_needed() -> None:
    project = '[project]\nrequires-python = ">=3.11"\ndependencies = [{}]'
    python, packages = check_packages(project.format('"numpy", "torch>=2"'))
    assert levels(python, packages) == ["ok", "ok"] and packages.found.startswith("2 as needed")
    _, packages = check_packages(project.format('"numpy<1", "no-such-package"'))
    assert packages.level == "fail" and "is not <1; no-such-package is missing" in packages.found
    python, _ = check_packages(project.format("").replace("3.11", "4"))
    assert python.level == "fail" and "melray needs >=4" in python.found


def test_memory_and_disk() -> None:
    assert levels(check_memory(16 * GIB, 8 * GIB), check_memory(16 * GIB, GIB)) == ["ok", "warn"]
    assert levels(check_shared_memory(8 * GIB, 16 * GIB), check_shared_memory(64 * 2**20, 16 * GIB)) == [
        "ok",
        "warn",
    ]
    assert "--shm-size=5g" in check_shared_memory(64 * 2**20, 16 * GIB).remedy


def test_a_full_disk_fails(full_disk: Path) -> None:
    assert check_disk(full_disk / "runs" / "later").level == "fail"


def test_formats_are_decoded() -> None:
    assert check_decoding().level == "ok"


def test_storage_is_written_read_and_left_as_it_was(tmp_path: Path) -> None:
    check = check_storage(str(tmp_path))
    assert check.level in ("ok", "warn") and "MB/s" in check.found and list(tmp_path.iterdir()) == []
    assert check_storage(tmp_path.as_uri()).level in ("ok", "warn") and list(tmp_path.iterdir()) == []
    missing = check_storage(str(tmp_path / "nowhere"))
    assert missing.level == "fail" and "No such file" in missing.found and missing.remedy
    assert check_storage("nonsense://bucket").level == "fail"


def test_storage_that_returns_something_else_fails() -> None:
    deleted = []
    store = Store(lambda content: None, lambda: bytes(SIZE), lambda: deleted.append(1))
    assert check_storage("x", lambda place: store).found == "what is read is not what was written" and deleted


def test_who_may_use_a_cluster() -> None:
    assert check_access(token=True, loopback=True, encrypted=False, opened=["GCS"]).level == "ok"
    assert check_access(token=True, loopback=False, encrypted=False, opened=[]).level == "warn"
    assert check_access(token=True, loopback=False, encrypted=True, opened=[]).level == "ok"
    assert (
        check_access(token=True, loopback=True, encrypted=False, opened=["GCS", "dashboard"]).level == "warn"
    )
    assert check_access(token=False, loopback=True, encrypted=False, opened=[]).level == "warn"
    opened = check_access(token=False, loopback=True, encrypted=False, opened=["GCS"])
    assert (
        opened.level == "fail"
        and "GCS reachable from other machines: anyone there can run programs" in opened.found
    )


def test_clocks() -> None:
    assert levels(check_clock(100.0, 130.0), check_clock(100.0, 1000.0)) == ["ok", "warn"]


def test_nodes_as_a_dashboard_tells_them() -> None:
    entry = {
        "node_ip": "10.0.0.1",
        "is_head_node": True,
        "state": "ALIVE",
        "resources_total": {"CPU": 4, "memory": 8 * GIB},
    }
    usage = {"CPU": [1.0, 4.0], "memory": [2.0 * GIB, 8.0 * GIB], "objectStoreMemory": [0.0, 0.0]}
    head = parse_node(entry, usage)
    assert describe_node(head.total, head.used) == "3 of 4 CPUs free, 6.0 of 8.0 GiB memory free"
    lost = parse_node(entry | {"state": "DEAD", "is_head_node": False}, None)
    assert sums([head, lost]) == (head.total, head.used)
    assert levels(*check_nodes([head, lost])) == ["warn"] and levels(*check_nodes([head])) == ["ok"]
    untold = parse_node(entry, None)
    assert describe_node(*sums([head, untold])) == "8 CPUs, 16.0 GiB memory"
    assert levels(*check_nodes([head._replace(total=amounts({}))])) == ["ok", "fail"]


def test_the_command_tells_scripts_and_ends_with_1_after_a_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["doctor", "--json", "--run", str(tmp_path), "--storage", str(tmp_path / "nowhere")])
    checks = {check["what"]: check for check in json.loads(capsys.readouterr().out)}
    assert code == 1 and checks[f"storage {tmp_path / 'nowhere'}"]["level"] == "fail"
    assert "no cluster runs here" in checks["ray"]["found"] and checks["python"]["level"] == "ok"
    assert {"packages", "CPUs", "memory", "GPUs", "disk", "decoding", "time"} <= checks.keys()
    assert run(["doctor", "--run", str(tmp_path), "--address", "127.0.0.1:9"]) == 1
    assert (
        "fail  ray            --address 127.0.0.1:9: no Ray cluster answers there" in capsys.readouterr().out
    )

"""Checks of `melray doctor` on good and bad values; no cluster is needed."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import psutil
import pytest

from cluster.arguments.common_flags import CommonFlags
from cluster.cli import run
from cluster.connection.nodes import amounts, describe_node, parse_node, sum_resources
from cluster.doctor.check import Check, ok, report, warn
from cluster.doctor.cluster import check_access, check_clock, check_nodes, check_ports
from cluster.doctor.doctor import check_ray
from cluster.doctor.host import (
    check_decoding,
    check_disk,
    check_limits,
    check_memory,
    check_packages,
    check_shared_memory,
    check_temp_folder,
    declared_requirements,
)
from cluster.doctor.storage import TEST_BYTES, FileAccess, check_storage
from cluster.local.processes import find_listeners

GIB = 2**30


def levels(*checks: Check) -> list[str]:
    return [check.level for check in checks]


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_report_prints_hint_below_its_check() -> None:
    text = report([ok("python", "3.11.7"), warn("shared memory", "0.1 GiB free", "docker run --shm-size=8g")])
    assert text.splitlines() == [
        "ok    python         3.11.7",
        "warn  shared memory  0.1 GiB free",
        "                     -> docker run --shm-size=8g",
    ]


def test_packages_are_compared_with_requirements() -> None:
    python, packages = check_packages(">=3.11", ["numpy", "torch>=2"])
    assert levels(python, packages) == ["ok", "ok"] and packages.message.startswith("2 as required")
    _, packages = check_packages(">=3.11", ["numpy<1", "no-such-package"])
    assert packages.level == "fail" and "is not <1; no-such-package is missing" in packages.message
    python, _ = check_packages(">=4", [])
    assert python.level == "fail" and "melray requires >=4" in python.message


def test_low_memory_is_a_warning() -> None:
    assert levels(check_memory(16 * GIB, 8 * GIB), check_memory(16 * GIB, GIB)) == ["ok", "warn"]
    assert check_shared_memory(8 * GIB, 16 * GIB).level == "ok"
    small = check_shared_memory(64 * 2**20, 16 * GIB)
    assert small.level == "warn" and "--shm-size=5g" in small.hint


def test_full_disk_fails(full_disk: Path) -> None:
    assert check_disk(full_disk / "runs" / "later").level == "fail"


def test_audio_formats_are_decoded() -> None:
    assert check_decoding().level == "ok"


@pytest.mark.parametrize(
    ("package", "error", "name"),
    [
        ("torch", ImportError("libcudart.so.13: cannot open shared object file"), "GPUs"),
        ("soundfile", OSError("cannot load library 'libsndfile.so'"), "decoding"),
    ],
)
def test_package_that_cannot_be_imported_is_a_failed_check(
    package: str,
    error: Exception,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken:
        def find_spec(self, module: str, *_: object) -> None:
            if module == package:
                raise error

    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    code = run(["doctor", "--json", "--run", str(tmp_path)])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert code == 1 and checks[name]["level"] == "fail"
    assert checks[name]["message"] == f"{package} cannot be imported: {error}"
    assert {"packages", "disk", "temporary files", "time"} <= checks.keys()


def test_missing_ray_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_ray(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'ray'")

    monkeypatch.setattr("cluster.doctor.doctor.session", without_ray)
    (check,) = check_ray(start=True, common=CommonFlags())
    assert check.level == "fail" and check.message == "ray cannot be imported: No module named 'ray'"


def test_storage_check_leaves_no_file_behind(tmp_path: Path) -> None:
    check = check_storage(str(tmp_path))
    assert check.level in ("ok", "warn") and "MB/s" in check.message and list(tmp_path.iterdir()) == []
    assert check_storage(tmp_path.as_uri()).level in ("ok", "warn") and list(tmp_path.iterdir()) == []


def test_missing_storage_fails(tmp_path: Path) -> None:
    check = check_storage(str(tmp_path / "nowhere"))
    assert check.level == "fail" and "No such file" in check.message and check.hint
    assert check_storage("nonsense://bucket").level == "fail"


def test_storage_with_different_data_fails() -> None:
    deleted = []
    file = FileAccess(lambda content: None, lambda: bytes(TEST_BYTES), lambda: deleted.append(1))
    assert check_storage("x", lambda location: file).message == "read back different data" and deleted


@pytest.mark.parametrize(
    ("token", "loopback", "encrypted", "exposed", "level"),
    [
        (True, True, False, False, "ok"),
        (True, True, False, True, "ok"),
        (True, False, False, False, "warn"),
        (True, False, True, False, "ok"),
        (False, True, False, False, "warn"),
        (False, True, False, True, "fail"),
        (False, False, True, False, "fail"),
    ],
)
def test_access_level_depends_on_token_and_exposure(
    token: bool, loopback: bool, encrypted: bool, exposed: bool, level: str
) -> None:
    check = check_access(token, loopback, encrypted, exposed)
    assert check.level == level
    assert ("anyone on the network can run code" in check.message) == (level == "fail")


def test_ports_on_all_interfaces_are_named() -> None:
    own = [psutil.Process()]
    with socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6):
        listeners = find_listeners(own)
        assert check_ports(listeners) == ok("ports", f"{len(listeners)}, on loopback only")
        with socket.create_server(("", 0)) as server:
            check = check_ports(find_listeners(own))
            port = server.getsockname()[1]
    assert check.level == "warn" and check.message.startswith("1 port reachable from other hosts: ")
    assert check.message.endswith(f" at 0.0.0.0 port {port}")


def test_clock_skew_is_a_warning() -> None:
    assert levels(check_clock(100.0, 130.0), check_clock(100.0, 1000.0)) == ["ok", "warn"]


def test_nodes_are_parsed_from_dashboard_entries() -> None:
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
    assert sum_resources([head, lost]) == (head.total, head.used)
    assert levels(*check_nodes([head, lost])) == ["warn"] and levels(*check_nodes([head])) == ["ok"]
    unreported = parse_node(entry, None)
    assert describe_node(*sum_resources([head, unreported])) == "8 CPUs, 16.0 GiB memory"
    assert levels(*check_nodes([head._replace(total=amounts({}))])) == ["ok", "fail"]


def test_json_report_and_exit_code_after_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["doctor", "--json", "--run", str(tmp_path), "--storage", str(tmp_path / "nowhere")])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert code == 1 and checks[f"storage {tmp_path / 'nowhere'}"]["level"] == "fail"
    assert "no local cluster" in checks["ray"]["message"] and checks["python"]["level"] == "ok"
    assert {"packages", "CPUs", "memory", "GPUs", "disk", "decoding", "time"} <= checks.keys()


def test_unreachable_cluster_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--run", str(tmp_path), "--address", "127.0.0.1:9"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("fail  ray ") and "--address 127.0.0.1:9: no Ray cluster at this address" in line
        for line in lines
    )


def test_long_temporary_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    check = check_temp_folder()
    assert check.level == "ok" and f"{long} is too long for sockets" in check.message
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert check_temp_folder().level == "fail"


def test_low_limit_of_open_files_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_limits().level == "ok"
    monkeypatch.setattr("resource.getrlimit", lambda name: (256, 256))
    assert check_limits().hint == "Ray needs 1024: ulimit -n 1024"


def test_requirements_come_from_checkout_or_installation(tmp_path: Path) -> None:
    checkout, installed = (declared_requirements(path) for path in (Path(__file__).parents[3], tmp_path))
    assert checkout[0] and any(package.startswith("ray[") for package in checkout[1])
    assert any(package.startswith("ray[") for package in installed[1])
    assert not any(package.startswith("pytest") for package in installed[1])

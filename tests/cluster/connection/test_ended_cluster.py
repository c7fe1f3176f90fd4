"""A local cluster that has ended by itself, as after a restart of the host, is named with its log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.arguments.common_flags import CommonFlags
from cluster.connection import address, dashboard, session
from cluster.connection.address import job_server
from cluster.connection.dashboard import get_json
from cluster.connection.local_state import LocalCluster, ProcessRef, clear_state, ended_cluster, save_state
from cluster.doctor.doctor import check_ray
from pipeline.io.errors import UserError

CLOSED = "http://127.0.0.1:9"


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalCluster:
    """Return a cluster whose process id now belongs to a process that was started later."""
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path / "home"))
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for module in (address, dashboard):
        monkeypatch.setattr(module, "DEFAULT_DASHBOARD", CLOSED)
    (tmp_path / "supervisor.log").touch()
    cluster = LocalCluster(
        address="127.0.0.1:9",
        dashboard=CLOSED,
        token=tmp_path / "token",
        folder=tmp_path,
        nodes=2,
        cpus=1,
        supervisor=ProcessRef(pid=os.getpid(), started=1.0),
    )
    save_state(cluster)
    return cluster


def test_commands_name_it(ended: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    message = rf"the cluster of `melray cluster up` has ended \(see {ended.folder}/supervisor.log\); start it"
    with pytest.raises(UserError, match=message):
        get_json(job_server(None), "/api/version")
    with pytest.raises(UserError, match="check that the cluster is up"):
        get_json(job_server("http://127.0.0.1:10"), "/api/version")

    def fail(*args: object, **settings: object) -> None:
        raise ConnectionError("no cluster")

    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(UserError, match=message):
        session._connect("auto", "auto", None)


def test_doctor_warns_of_it(ended: LocalCluster) -> None:
    (check,) = check_ray(False, CommonFlags())
    assert (check.level, check.hint) == ("warn", ended_cluster())
    clear_state()
    (check,) = check_ray(False, CommonFlags())
    assert (check.level, ended_cluster()) == ("ok", "")

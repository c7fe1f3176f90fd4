"""`melray serve --address`: replicas on the nodes of a cluster, which they leave as they found it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

from tests.helpers.processes import kill_process_tree, ray_workers, start_command, wait_until
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.serving import wav_bytes
from tests.helpers.sounds import RATE, tone
from tests.integration.test_node_loss import LoopbackCluster

# Ray Serve adds replicas after half a minute of load, and each imports torch.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray_session"), pytest.mark.timeout(300)]
SOUND = wav_bytes(tone(400, 0.5), RATE)
# So long that a replica is busy with a few clients on any host, and small enough to be grouped (2 MB).
LONG_SOUND = wav_bytes(tone(400, 40.0), RATE)
LOAD_S, CLIENTS = 150, 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("runs") / "birds")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCluster]:
    """Start a cluster of two nodes of one CPU, which this process does not join."""
    folder = Path(f"/tmp/mr{os.getpid()}")  # paths of sockets in it must be short
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    cluster = LoopbackCluster(2)
    try:
        yield cluster
    finally:
        cluster.shut_down()


@contextmanager
def server(
    cluster: LoopbackCluster, run: Path, log: Path, *flags: object
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """Serve a run on the cluster within the `with` block; yield the command and a client of it."""
    command = ("serve", "--address", cluster.address, "--run", run, "--port", 0, *flags)
    process = start_command(*command, log=log)
    try:
        wait_until(lambda: process.poll() is not None or "ready" in read(log), 120)
        assert process.poll() is None, read(log)
        (line,) = [line for line in read(log).splitlines() if line.startswith("page: ")]
        with httpx.Client(base_url=line.removeprefix("page: "), timeout=60) as client:
            yield process, client
    finally:
        kill_process_tree(process.pid)
        process.wait()


def read(log: Path) -> str:
    return log.read_text(encoding="utf-8")


def replicas_by_node(name: str = "birds") -> dict[int, int]:
    """Return the replicas of a model on the nodes of this process, by their process; each with its node's."""
    return {worker.pid: worker.ppid() for worker in ray_workers(os.getpid(), f"ServeReplica:melray-{name}")}


def classify(client: httpx.Client, sound: bytes = SOUND) -> int:
    return client.post("/classify", content=sound).status_code


def test_replicas_are_on_several_nodes_and_end_with_the_command(
    cluster: LoopbackCluster, run: Path, tmp_path: Path
) -> None:
    with server(cluster, run, tmp_path / "log", "--replicas", 2, "--max-replicas", 2) as (process, client):
        assert len(replicas_by_node()) == 2 == len(set(replicas_by_node().values()))
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(classify, 20 * [client])) == 20 * [200]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert read(tmp_path / "log").endswith("stopping\nstopped\n")
        wait_until(lambda: not ray_workers(os.getpid(), "Serve"), 30)
    # The cluster is still there, and has its CPUs again.
    with server(cluster, run, tmp_path / "log-2", "--replicas", 2) as (_, client):
        assert classify(client) == 200


def test_end_of_a_server_leaves_others_on_the_cluster(
    cluster: LoopbackCluster, run: Path, tmp_path: Path
) -> None:
    with (
        server(cluster, run, tmp_path / "log") as (_, other),
        server(cluster, run, tmp_path / "log-2") as (process, client),
    ):
        assert classify(client) == classify(other) == 200
        assert len(replicas_by_node()) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        wait_until(lambda: len(replicas_by_node()) == 1, 30)
        assert classify(other) == 200


def test_replica_is_added_while_requests_wait(cluster: LoopbackCluster, run: Path, tmp_path: Path) -> None:
    with server(cluster, run, tmp_path / "log", "--replicas", 1, "--max-replicas", 2) as (_, client):
        assert len(replicas_by_node()) == 1
        end = time.monotonic() + LOAD_S

        def load(_: int) -> set[int]:
            statuses = set()
            while len(replicas_by_node()) < 2 and time.monotonic() < end:
                statuses |= {classify(client, LONG_SOUND) for _ in range(5)}
            return statuses

        with ThreadPoolExecutor(CLIENTS) as pool:
            assert set().union(*pool.map(load, range(CLIENTS))) == {200}
        assert len(set(replicas_by_node().values())) == 2
        assert classify(client) == 200

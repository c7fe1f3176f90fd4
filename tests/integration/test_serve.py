"""`melray serve` on Ray Serve: results of the commands, a replica that is killed, and the end by Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

import httpx
import soundfile

from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.distributed.batch_job import run_in_process
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generate import generate
from tests.helpers.processes import kill_process_tree, ray_workers, start_command, wait_until
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.serving import save_generator
from tests.helpers.sounds import RATE, tone

MAX_REQUESTS = 12
# Four replicas import torch at the same time.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    # Names that Ray would refuse.
    return save_classifier(folder / "Vögel 1"), save_generator(folder / "Töne")


@pytest.fixture(scope="module")
def server(
    runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[bytes]]:
    """Serve both runs, with two replicas each; its output is in the file `log` of the process."""
    log = tmp_path_factory.mktemp("server") / "log"
    flags = [
        "--port",
        0,
        "--replicas",
        2,
        "--cpus-per-replica",
        0.5,
        "--cpus",
        2,
        "--max-requests",
        MAX_REQUESTS,
    ]
    process = start_command("serve", "--run", runs[0], "--run", runs[1], *flags, log=log)
    process.log = log  # type: ignore[attr-defined]
    try:
        wait_until(lambda: process.poll() is not None or "ready" in log.read_text(), 280)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        kill_process_tree(process.pid)
        process.wait()


@pytest.fixture(scope="module")
def client(server: subprocess.Popen[bytes]) -> Iterator[httpx.Client]:
    (line,) = [line for line in server.log.read_text().splitlines() if line.startswith("page: ")]  # type: ignore[attr-defined]
    with httpx.Client(base_url=line.removeprefix("page: "), timeout=60) as client:
        yield client


def write_sounds(folder: Path, count: int = 6) -> list[Path]:
    files = [folder / f"{number}.wav" for number in range(count)]
    for number, file in enumerate(files):
        soundfile.write(file, tone(300 + 200 * number, 0.5 + 0.1 * number), RATE)
    return files


def test_classify_has_probabilities_of_predict(
    client: httpx.Client, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "audio").mkdir()
    files = write_sounds(tmp_path / "audio")
    config = PredictConfig(run=runs[0], audio=tmp_path / "audio", out=tmp_path / "out", device="cpu")
    write_predictions(config, run_in_process)
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet").set_index("id")

    def classify(file: Path) -> dict[str, float]:
        response = client.post("/classify", files={"file": (file.name, file.read_bytes())})
        assert response.status_code == 200, response.text
        return {row["label"]: row["probability"] for row in response.json()["predictions"]}

    with ThreadPoolExecutor(len(files)) as pool:  # in batches
        for file, probabilities in zip(files, pool.map(classify, files), strict=True):
            for label, value in probabilities.items():
                assert value == pytest.approx(table.loc[file.name, f"p:{label}"], abs=1e-6)


def test_generate_has_bytes_of_generate(
    client: httpx.Client, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    config = GenerateConfig(run=runs[1], out=tmp_path, label=("tone 2",), seed=3, count=1, device="cpu")
    (file,) = generate(config)["file"]
    response = client.get("/generate", params={"label": "tone 2", "seed": 3})
    assert response.content == (tmp_path / file).read_bytes()


def test_bad_audio_is_refused(client: httpx.Client) -> None:
    response = client.post("/classify", files={"file": ("a.wav", b"no sound")})
    assert (response.status_code, response.json()) == (422, {"detail": "unreadable: Format not recognised"})


def test_killed_replica_loses_no_request(
    server: subprocess.Popen[bytes], client: httpx.Client, tmp_path: Path
) -> None:
    content = write_sounds(tmp_path, 1)[0].read_bytes()
    statuses: list[int] = []
    name = "ServeReplica:melray-V%C3%B6gel 1"
    before = {process.pid for process in ray_workers(server.pid, name)}
    assert len(before) == 2
    victim = psutil.Process(before.pop())

    def classify(number: int) -> None:
        if number == 40:
            victim.kill()
        statuses.append(client.post("/classify", content=content).status_code)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(classify, range(120)))
    assert statuses == [200] * 120
    wait_until(lambda: len({process.pid for process in ray_workers(server.pid, name)} - {victim.pid}) == 2)
    assert client.post("/classify", content=content).status_code == 200


def test_requests_beyond_limit_are_told_to_retry(client: httpx.Client, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", tone(400, 150.0), RATE)
    content = (tmp_path / "long.flac").read_bytes()
    with ThreadPoolExecutor(3 * MAX_REQUESTS) as pool:
        posts = [pool.submit(client.post, "/classify", content=content) for _ in range(3 * MAX_REQUESTS)]
        responses = [post.result() for post in posts]
    refused = [response for response in responses if response.status_code == 503]
    assert {response.status_code for response in responses} == {200, 503}
    assert all(response.headers["Retry-After"] == "1" for response in refused)
    assert len(responses) - len(refused) >= MAX_REQUESTS


def test_interrupt_ends_server_and_its_processes(
    server: subprocess.Popen[bytes], client: httpx.Client
) -> None:
    processes = psutil.Process(server.pid).children(recursive=True)
    server.send_signal(signal.SIGINT)
    assert server.wait(30) == 0
    text = server.log.read_text()  # type: ignore[attr-defined]
    assert text.endswith("stopping\nstopped\n") and "Traceback" not in text
    deadline = time.monotonic() + 20
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes):
        assert time.monotonic() < deadline, "processes of the server are still running"
        time.sleep(0.1)

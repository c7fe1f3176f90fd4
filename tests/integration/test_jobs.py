"""Jobs on a local cluster of two nodes, from `melray cluster up` to `melray cluster down`."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from cluster.connection.local_state import local_cluster
from cluster.local.processes import cluster_processes, is_alive
from models.classifier import ClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.shards import open_shards
from pipeline.training.run_folder import RunFolder
from tests.helpers.processes import run_command, wait_until
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import RATE, train_config, write_shards, write_tones

FEATURES = (
    f"--features.mel.sample-rate {RATE} --features.mel.n-fft 256 "
    "--features.mel.hop-length 256 --features.mel.n-mels 16"
).split()

SLOW = ClassifierConfig(channels=(64, 64), convs_per_block=3, embedding_dim=16)


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.CompletedProcess[str]]:
    """Start the cluster and stop it after all tests; yield the completed `melray cluster up`."""
    home = os.environ.get("MELRAY_HOME")
    os.environ["MELRAY_HOME"] = str(tmp_path_factory.mktemp("home"))
    try:
        up = run_command("cluster", "up", "--nodes", 2, "--cpus", 1)
        assert up.returncode == 0, up.stderr
        yield up
    finally:
        run_command("cluster", "down")
        if home is None:
            del os.environ["MELRAY_HOME"]
        else:
            os.environ["MELRAY_HOME"] = home


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tones(tmp_path / "tones", classes=2, clips=4)


def submit(*arguments: object, follow: bool = True) -> subprocess.CompletedProcess[str]:
    return run_command("submit", "--preinstalled", *(["--follow"] if follow else []), "--", *arguments)


def job_id(submitted: subprocess.CompletedProcess[str]) -> str:
    return next(line.split()[1] for line in submitted.stdout.splitlines() if line.startswith("job "))


def test_cluster_is_up_and_protected(cluster: subprocess.CompletedProcess[str]) -> None:
    assert "2 nodes with 1 CPU each, up in" in cluster.stderr
    state = local_cluster()
    assert state is not None
    assert stat.S_IMODE(state.token.stat().st_mode) == 0o600
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    assert state.token.read_text() not in cluster.stdout + cluster.stderr
    # The dashboard reports free resources some seconds after the start.
    wait_until(lambda: "2 of 2 CPUs free" in run_command("cluster", "status").stdout, 30)
    status = run_command("cluster", "status").stdout
    assert "2 nodes, 2 of 2 CPUs free" in status and status.count("1 of 1 CPU free") == 2
    assert "running jobs: none" in status


def test_second_cluster_is_an_error() -> None:
    second = run_command("cluster", "up")
    assert second.returncode == 2 and "a 2-node cluster is already running" in second.stderr


@pytest.mark.slow
def test_job_extracts_and_a_command_joins_the_cluster(tones: Path, tmp_path: Path) -> None:
    arguments = ["extract", "--data", "tones", "--out", "shards", "--copies", 0, *FEATURES]
    job = submit(*arguments)
    assert job.returncode == 0, job.stdout + job.stderr
    assert open_shards(tmp_path / "shards").clips == 8
    assert "8 clips, 8 rows, 0 rejected" in job.stdout and "succeeded after" in job.stderr
    jobs = run_command("jobs").stdout
    assert job_id(job) in jobs and "succeeded" in jobs and f"extract --data {tones}" in jobs
    # All shards exist, so the command only joins the cluster and prints the result.
    joined = run_command(*arguments, "--address", "auto")
    assert joined.returncode == 0, joined.stderr
    assert "8 clips, 8 rows, 0 rejected" in joined.stdout + joined.stderr


@pytest.mark.slow
def test_failed_job_returns_its_exit_code() -> None:
    job = submit("extract", "--data", "/nowhere", "--out", "/nowhere/shards")
    assert job.returncode == 2 and "melray: error: --data /nowhere: no such folder" in job.stdout
    assert "exit code 2" in job.stderr


@pytest.mark.slow
def test_job_is_stopped(tmp_path: Path) -> None:
    name = job_id(submit("demo", "--out", tmp_path / "demo", follow=False))
    assert run_command("jobs", "stop", name).stdout == f"{name} stopped\n"
    assert run_command("jobs", "logs", name).returncode == 130
    unknown = run_command("jobs", "logs", name[:-1])
    assert unknown.returncode == 2 and f"did you mean '{name}'?" in unknown.stderr


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_resubmitted_job_resumes_to_the_same_weights(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, clips=20, copies=3)
    reference, config = (
        train_config(shards, tmp_path / name, model=SLOW, epochs=6, cpus_per_worker=1)
        for name in ("reference", "run")
    )
    torch.set_num_threads(1)
    reference.run.mkdir()
    train_loop(reference, SINGLE_WORKER)
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(config.to_dict()))
    arguments = ["train-classifier", "--config", settings]
    name = job_id(submit(*arguments, follow=False))
    wait_until(lambda: len(RunFolder(config.run).read_history()) == 2, 60)
    drivers = [process for process in psutil.process_iter() if is_driver(process)]
    assert drivers
    for driver in drivers:
        driver.kill()
    wait_until(
        lambda: f"{name} " in run_command("jobs").stdout and "failed" in run_command("jobs").stdout, 60
    )
    assert not (config.run / "summary.json").exists()
    resumed = submit(*arguments)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "resuming from epoch" in resumed.stdout, resumed.stdout
    assert tensors_equal(load_weights(config.run), load_weights(reference.run))


def is_driver(process: psutil.Process) -> bool:
    """Return whether a process is the driver of a job that trains a classifier."""
    try:
        arguments = process.cmdline()
    except psutil.Error:
        return False
    return "train-classifier" in arguments and "submit" not in arguments


def test_wrong_token_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    message = f"token rejected (from RAY_AUTH_TOKEN_PATH {token})"
    jobs = run_command("jobs", timeout=20)
    assert jobs.returncode == 2 and len(jobs.stderr.splitlines()) == 1
    assert message in jobs.stderr
    # By Ray's own protocol, where Ray itself would retry for 20 s.
    state = local_cluster()
    assert state is not None
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path))
    shards = write_shards(tmp_path)
    start = time.monotonic()
    training = run_command(
        "train-classifier", "--shards", shards, "--run", tmp_path / "run", "--address", state.address
    )
    assert training.returncode == 2 and message in training.stderr.splitlines()[-1]
    assert time.monotonic() - start < 20


def test_down_stops_all_processes_of_the_cluster_only() -> None:
    state = local_cluster()
    assert state is not None
    # A process that mentions the cluster, such as a reader of its logs, does not belong to it.
    with subprocess.Popen(
        ["tail", "-f", state.folder / "node-0.log"], stdout=subprocess.DEVNULL, start_new_session=True
    ) as reader:
        try:
            processes = cluster_processes(state)
            assert len(processes) > 10 and reader.pid not in {process.pid for process in processes}
            down = run_command("cluster", "down")
            assert down.returncode == 0 and "stopped 2 nodes (" in down.stderr
            assert not [process for process in processes if is_alive(process)]
            assert reader.poll() is None and not state.folder.exists() and not state.token.exists()
        finally:
            reader.kill()
    assert run_command("cluster", "down").stderr == "no local cluster is running\n"

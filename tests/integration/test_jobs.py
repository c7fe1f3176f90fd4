"""A cluster of two nodes on loopback, as `melray cluster up` makes it: jobs run on it, and `down` leaves nothing of it behind."""

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
from cluster.local.processes import cluster_processes
from models.classifier import ClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.shards import open_shards
from pipeline.training.run_folder import RunFolder
from tests.helpers.processes import run, wait_for
from tests.helpers.runs import ALONE, same, weights
from tests.helpers.sounds import RATE, train_config, write_shards, write_tones

FEATURES = f"--features.mel.sample-rate {RATE} --features.mel.n-fft 256 --features.mel.hop-length 256 --features.mel.n-mels 16".split()

SLOW = ClassifierConfig(channels=(64, 64), convs_per_block=3, embedding_dim=16)


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What `up` printed."""
    before = {name: os.environ.get(name) for name in ("MELRAY_HOME",)}
    os.environ["MELRAY_HOME"] = str(tmp_path_factory.mktemp("home"))
    try:
        up = run("cluster", "up", "--nodes", 2, "--cpus", 1)
        assert up.returncode == 0, up.stderr
        yield up.stdout
    finally:
        run("cluster", "down")
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tones(tmp_path / "tones", classes=2, clips=4)


def submit(*words: object, follow: bool = True) -> subprocess.CompletedProcess[str]:
    return run("submit", "--preinstalled", *(["--follow"] if follow else []), "--", *words)


def job_id(submitted: subprocess.CompletedProcess[str]) -> str:
    return next(line.split()[1] for line in submitted.stdout.splitlines() if line.startswith("job "))


def test_it_is_up_once_and_closed(cluster: str) -> None:
    assert "2 nodes with 1 CPUs each, up in" in cluster
    there = local_cluster()
    assert (
        there is not None
        and stat.S_IMODE(there.token.stat().st_mode) == 0o600
        and stat.S_IMODE(there.folder.stat().st_mode) == 0o700
    )
    assert there.token.read_text() not in cluster
    # What a node has free is known some seconds after it is up.
    wait_for(lambda: "2 of 2 CPUs free" in run("cluster", "status").stdout, 30)
    status = run("cluster", "status").stdout
    assert (
        "2 nodes, 2 of 2 CPUs free" in status
        and status.count("1 of 1 CPUs free") == 2
        and "running jobs: none" in status
    )
    again = run("cluster", "up")
    assert again.returncode == 2 and "a cluster of 2 nodes runs here already" in again.stderr


@pytest.mark.slow
def test_a_job_extracts_on_it_and_a_command_joins_it(tones: Path, tmp_path: Path) -> None:
    words = ["extract", "--data", "tones", "--out", "shards", "--copies", 0, *FEATURES]
    done = submit(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert open_shards(tmp_path / "shards").clips == 8
    assert "8 clips, 8 rows, 0 rejected" in done.stdout and "succeeded after" in done.stderr
    listed = run("jobs").stdout
    assert job_id(done) in listed and "succeeded" in listed and f"extract --data {tones}" in listed
    # All parts are there: it only joins, and says so again.
    joined = run(*words, "--address", "auto")
    assert joined.returncode == 0 and "8 clips, 8 rows, 0 rejected" in joined.stdout, joined.stderr


@pytest.mark.slow
def test_a_failing_job_gives_its_exit_code() -> None:
    failed = submit("extract", "--data", "/nowhere", "--out", "/nowhere/shards")
    assert failed.returncode == 2 and "melray: error: --data /nowhere: no such folder" in failed.stdout
    assert "exit code 2" in failed.stderr


@pytest.mark.slow
def test_a_job_is_stopped(tmp_path: Path) -> None:
    name = job_id(submit("demo", "--out", tmp_path / "demo", follow=False))
    assert run("jobs", "stop", name).stdout == f"{name} stopped\n"
    assert run("jobs", "logs", name).returncode == 130
    unknown = run("jobs", "logs", name[:-1])
    assert unknown.returncode == 2 and f"did you mean '{name}'?" in unknown.stderr


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_a_killed_driver_submitted_again_ends_with_the_same_weights(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, clips=20, copies=3)
    calm, config = (
        train_config(shards, tmp_path / name, model=SLOW, epochs=6, cpus_per_worker=1)
        for name in ("calm", "run")
    )
    torch.set_num_threads(1)
    calm.run.mkdir()
    train_loop(calm, ALONE)
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(config.to_dict()))
    words = ["train-classifier", "--config", settings]
    name = job_id(submit(*words, follow=False))
    wait_for(lambda: len(RunFolder(config.run).read_history()) == 2, 60)
    drivers = [process for process in psutil.process_iter() if is_driver(process)]
    assert drivers
    for driver in drivers:
        driver.kill()
    wait_for(lambda: f"{name} " in run("jobs").stdout and "failed" in run("jobs").stdout, 60)
    assert not (config.run / "summary.json").exists()
    again = submit(*words)
    assert again.returncode == 0 and "going on after epoch" in again.stdout, again.stdout + again.stderr
    assert same(weights(config.run), weights(calm.run))


def is_driver(process: psutil.Process) -> bool:
    """Whether a process is the command of a job that trains a classifier."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "train-classifier" in words and "submit" not in words


def test_a_wrong_token_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    refused = run("jobs", timeout=20)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert f"the cluster refuses the token of RAY_AUTH_TOKEN_PATH {tmp_path / 'token'}" in refused.stderr
    # Joined by Ray's own protocol, where Ray itself would try for 20 s.
    there = local_cluster()
    assert there is not None
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path))
    shards = write_shards(tmp_path)
    began = time.monotonic()
    refused = run(
        "train-classifier", "--shards", shards, "--run", tmp_path / "run", "--address", there.address
    )
    assert (
        refused.returncode == 2
        and f"refuses the token of RAY_AUTH_TOKEN_PATH {tmp_path / 'token'}"
        in refused.stderr.splitlines()[-1]
    )
    assert time.monotonic() - began < 15


def test_down_ends_all_of_it_and_nothing_else() -> None:
    there = local_cluster()
    assert there is not None
    # One that mentions the cluster, as a reader of its logs does, is none of it.
    with subprocess.Popen(
        ["tail", "-f", there.folder / "node-0.log"], stdout=subprocess.DEVNULL, start_new_session=True
    ) as other:
        try:
            family = cluster_processes(there)
            assert len(family) > 10 and other.pid not in {process.pid for process in family}
            down = run("cluster", "down")
            assert down.returncode == 0 and "nothing of them is left" in down.stdout
            assert not [
                process
                for process in family
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            ]
            assert other.poll() is None and not there.folder.exists() and not there.token.exists()
        finally:
            other.kill()
    assert run("cluster", "down").stdout == "no cluster of `melray cluster up` is here\n"

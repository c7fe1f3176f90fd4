"""Jobs on a local cluster of two nodes, from `melray cluster up` to `melray cluster down`."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
import torch
import yaml

from cluster.connection.address import JobServer, job_server
from cluster.connection.dashboard import get_json, job_client
from cluster.connection.local_state import local_cluster
from cluster.connection.token import AUTH_ENV_VARS
from cluster.jobs.log_stream import LogStream
from cluster.local.processes import cluster_processes, find_listeners, is_alive
from models.classifier import ClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.data.shard_manifest import open_shards
from pipeline.io.console import logger
from pipeline.training.run_folder import RunFolder
from tests.helpers.processes import run_command, run_when, wait_until
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.s3_server import s3_server
from tests.helpers.sounds import RATE, train_config, write_shards, write_tones
from tests.helpers.tcp_proxy import TcpProxy

ROOT = Path(__file__).parents[2]
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


def test_other_hosts_reach_no_port_of_the_cluster() -> None:
    state = local_cluster()
    assert state is not None
    listeners = find_listeners(cluster_processes(state))
    assert len(listeners) > 10 and not [listener for listener in listeners if listener.is_exposed]


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
    cluster = local_cluster()
    assert cluster is not None
    drivers = [process for process in psutil.process_iter() if is_driver(process, cluster.address)]
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


@pytest.mark.slow
def test_job_reads_a_store_named_by_the_environment(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server() as server:
        server.bucket("sounds", tones)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "sesame-open")
        flags = ["--preinstalled", "--follow", "--env", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        command = [
            "extract",
            "--data",
            "s3://sounds/",
            "--out",
            tmp_path / "shards",
            "--copies",
            0,
            *FEATURES,
        ]
        job = run_command("submit", *flags, "--", *command)
        assert job.returncode == 0, job.stdout + job.stderr
        assert server.requests()["GET"] >= 8
    assert open_shards(tmp_path / "shards").clips == 8
    line = "environment of the job: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL of this"
    assert line in job.stderr and "sesame" not in job.stdout + job.stderr + run_command("jobs").stdout
    # The help says so: who has the token of the cluster can read the values, but not in a browser.
    dashboard = job_server("auto")
    path = f"/api/jobs/{job_id(job)}"
    assert get_json(dashboard, path)["runtime_env"]["env_vars"]["AWS_SECRET_ACCESS_KEY"] == "sesame-open"
    assert dashboard.token is not None
    headers = dashboard.token.header | {"User-Agent": "Mozilla/5.0"}
    assert "sesame" not in requests.get(dashboard.url + path, headers=headers, timeout=10).text


@pytest.mark.slow
def test_evaluation_holds_a_cpu_and_says_where_its_log_is(tmp_path: Path) -> None:
    job = submit("evaluate", "--run", tmp_path / "nowhere")
    assert job.returncode == 2 and "evaluate runs on a node with 1 CPU" in job.stderr
    server, name = job_server("auto"), job_id(job)
    assert get_json(server, f"/api/jobs/{name}")["entrypoint"].startswith("python -m cluster evaluate")
    assert f"dashboard: {server.url}/#/jobs/{name}" in job.stdout
    file = Path(job.stderr.strip().rpartition(":")[2])
    assert file.name == f"job-driver-{name}.log" and "nowhere" in file.read_text()


@pytest.mark.slow
def test_command_joins_the_cluster_by_ray_job_submit(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, state = job_server("auto"), local_cluster()
    assert state is not None
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(state.token))
    ray_job = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "job", "submit"]
    melray = ["python", "-m", "cluster"]
    command = ["extract", "--data", tones, "--out", tmp_path / "shards", "--copies", 0, *FEATURES]
    submitted = subprocess.run(
        [*ray_job, "--address", server.url, "--working-dir", ROOT, "--", *melray, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert open_shards(tmp_path / "shards").clips == 8
    # Work as small as this runs without Ray elsewhere.
    assert "processes of this host" not in submitted.stdout + submitted.stderr


@pytest.mark.slow
def test_jobs_join_their_own_cluster_among_several() -> None:
    server, state = job_server("auto"), local_cluster()
    assert state is not None
    client = job_client(server)
    with other_ray() as address:
        assert address.startswith("127.0.0.1:") and address != state.address
        # Without the address file, Ray would give each job one of both, at random.
        names = [client.submit_job(entrypoint="printenv RAY_ADDRESS") for _ in range(3)]
        wait_until(lambda: all(client.get_job_status(name).is_terminal() for name in names), 60)
        lines = [line for name in names for line in client.get_job_logs(name).splitlines()]
    # Ray's own line about a job may follow what the job printed.
    assert [line for line in lines if line.startswith("127.0.0.1:")] == 3 * [state.address]


@contextmanager
def other_ray() -> Iterator[str]:
    """Run a local Ray session in another process; return the address of its GCS."""
    code = (
        "from cluster.connection.session import session\n"
        "with session(cpus=1):\n"
        "    import ray\n"
        "    print(ray.get_runtime_context().gcs_address, flush=True)\n"
        "    input()\n"
    )
    inherited = {name: value for name, value in os.environ.items() if name not in AUTH_ENV_VARS}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env=inherited,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.communicate("\n", timeout=30)


COUNT = "import time\nfor number in range({}): print(number, 'é', flush=True); time.sleep({})"


def submit_python(code: str, **options: Any) -> tuple[JobServer, str]:
    """Submit a job that is no command of melray; return the dashboard and the job's id."""
    server = job_server("auto")
    return server, job_client(server).submit_job(entrypoint=shlex.join(["python", "-c", code]), **options)


def printed_numbers(log: str) -> list[int]:
    """Return the numbers that `COUNT` printed, in their order in the log."""
    return [int(line.removesuffix(" é")) for line in log.splitlines() if line.endswith(" é")]


@pytest.mark.slow
def test_followed_log_is_complete_after_lost_connections(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cluster.jobs.log_stream.SILENCE_S", 5.0)
    monkeypatch.setattr(logger, "propagate", True)
    # 30 s, so that the connection is lost three times before the end on a busy host, too.
    server, name = submit_python(COUNT.format(1500, 0.02))
    log: list[str] = []
    with TcpProxy(urlsplit(server.url).port or 80) as proxy, caplog.at_level("INFO"):
        proxied = replace(server, url=f"http://127.0.0.1:{proxy.port}")

        def printed_at_least(count: int) -> Callable[[], bool]:
            return lambda: len(printed_numbers("".join(log))) >= count

        def lose_connections() -> None:
            proxy.drop()
            wait_until(printed_at_least(200))
            proxy.silence()
            wait_until(printed_at_least(350))
            proxy.refuse()
            time.sleep(1)
            proxy.accept()

        losses = run_when(printed_at_least(50), lose_connections)
        job = LogStream(proxied, name, log.append).print_to_end()
        losses.result()
    assert job.exit_code == 0 and printed_numbers("".join(log)) == list(range(1500))
    lost = f"connection to {proxied.url} lost, reconnecting; the job keeps running"
    assert caplog.messages.count(lost) == caplog.messages.count("connected again") >= 3


def is_driver(process: psutil.Process, address: str) -> bool:
    """Return whether a process is the driver of a job of a cluster that trains a classifier."""
    try:
        is_training = "train-classifier" in process.cmdline()
        return is_training and process.environ().get("RAY_ADDRESS") == address
    except psutil.Error:
        return False


def test_wrong_token_is_a_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    message = f"token rejected (from RAY_AUTH_TOKEN_PATH {token})"
    # Of another cluster, as that of `cluster up` has a token of its own.
    assert run_command("jobs", timeout=20).returncode == 0
    state = local_cluster()
    assert state is not None
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path))
    jobs = run_command("jobs", "--address", state.dashboard, timeout=20)
    assert jobs.returncode == 2 and len(jobs.stderr.splitlines()) == 1
    assert message in jobs.stderr
    # By Ray's own protocol, where Ray itself would retry for 20 s.
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
        ["tail", "-f", state.folder / "supervisor.log"], stdout=subprocess.DEVNULL, start_new_session=True
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

"""Submitting jobs: what is sent, what a wrong command or cluster is told, and what a job's end means. No cluster is needed."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.cli import run
from cluster.connection.address import JobServer, job_server, ray_address
from cluster.connection.dashboard import check_version, get_json
from cluster.connection.local_state import LocalCluster, ProcessRef, running_cluster, save_state, state_dir
from cluster.connection.token import Token, default_token, read_token, write_token
from cluster.jobs.command import JobCommand, validate_command
from cluster.jobs.jobs import exit_code, find, table
from cluster.jobs.package import packed_files, project_root
from cluster.jobs.submit import entrypoint, new_id, send
from pipeline.io.errors import UserError

ROOT = project_root()
PACKED = set(packed_files(ROOT))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No token and no cluster of the user's."""
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class FakeClient:
    """Keeps what it is asked to submit, and what was in the package at that time."""

    def __init__(self, error: Exception | None = None):
        self.error = error
        self.sent: dict[str, Any] = {}
        self.package = b""

    def submit_job(self, **request: Any) -> str:
        if self.error:
            raise self.error
        self.sent = request
        self.package = Path(request["runtime_env"]["working_dir"]).read_bytes()
        return request["submission_id"]


def checked(*words: str, here: bool = False) -> JobCommand:
    return validate_command(list(words), ROOT, PACKED, here)


# The command


def test_a_shell_hands_over_the_words_as_they_were() -> None:
    words = ["extract", "--data", "/a b/it's $HOME", "--group-pattern", r'^\d-(\d+)-"']
    line = entrypoint(words).replace("python -c", "printf '%s\\n'", 1)
    said = subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[1:] == [*words, "--address", "auto"]


def test_an_id_tells_what_and_when() -> None:
    assert re.fullmatch(r"melray-train-gan-\d{8}-\d{6}-[0-9a-f]{4}", new_id("train-gan"))
    assert len({new_id("extract") for _ in range(20)}) > 15


def test_relative_paths_are_refused_elsewhere_and_made_absolute_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["extract", "--data", "sounds", "--out=/shared/shards"]
    with pytest.raises(
        UserError, match=r"^--data sounds: on the cluster, a relative path is a folder of the job's own"
    ):
        checked(*words)
    assert checked(*words, here=True).words == [
        "extract",
        "--data",
        str(tmp_path / "sounds"),
        "--out=/shared/shards",
    ]
    lists = checked(
        "train-classifier",
        "--shards",
        "a",
        "--run",
        "/r",
        "--extra-shards",
        "b",
        "/c",
        "--epochs",
        "3",
        here=True,
    ).words
    assert lists[6:9] == [str(tmp_path / "b"), "/c", "--epochs"]
    with pytest.raises(UserError, match=r"^--out runs/demo: "):
        checked("demo")
    assert checked("demo", here=True).words == ["demo", "--out", str(tmp_path / "runs/demo")]


def test_settings_travel_and_what_is_packed_is_found_where_it_lies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    words = ["tune", "--shards", "/s", "--run", "/r", "--space", "conf/search.yaml"]
    assert checked(*words).words == words
    mine = tmp_path / "mine.yaml"
    mine.write_text("shards: sets/a\nepochs: 3\n")
    with pytest.raises(UserError, match="--shards sets/a: on the cluster"):
        checked("train-classifier", "--config", str(mine), "--run", "/r")
    sent = checked("train-classifier", "--config", str(mine), "--run", "/r", here=True)
    assert sent.words == [
        *"train-classifier --config submitted/mine.yaml --run /r --shards".split(),
        str(ROOT / "sets/a"),
    ]
    assert sent.files == {"submitted/mine.yaml": mine.read_bytes()}
    assert (
        "--shards"
        not in checked("train-classifier", "--config", str(mine), "--run", "/r", "--shards", "/s").words[5:-2]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extrakt"], "unknown command 'extrakt'; did you mean 'extract'?"),
        (["submit"], "`melray submit` does not run as a job"),
        (["extract", "--address", "auto"], "--address auto after the --"),
        (["extract", "--data", "/d", "--out", "/o", "--copies", "-1"], "'copies' = -1"),
    ],
)
def test_a_wrong_command_is_told_before_it_is_sent(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", "--address", "http://127.0.0.1:9", "--", *words]) == 2
    assert message in capsys.readouterr().err


def test_nothing_to_submit(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "--follow"]) == 2
    assert "nothing to run: melray submit [flags] -- COMMAND" in capsys.readouterr().err


# What is sent


def test_no_token_is_ever_sent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "sesame-open")
    client = FakeClient()
    send(client, ROOT, sorted(PACKED), checked("evaluate", "--run", "/r"), False)  # type: ignore[arg-type]
    assert "sesame" not in json.dumps(client.sent) and b"sesame" not in client.package
    assert "sesame" not in str(default_token()) + "".join(capfd.readouterr())
    assert default_token().header == {"Authorization": "Bearer sesame-open"}  # type: ignore[union-attr]


def test_packages_are_installed_unless_the_image_has_them() -> None:
    client = FakeClient()
    send(client, ROOT, sorted(PACKED), JobCommand(["evaluate", "--run", "/r"], {}), True)  # type: ignore[arg-type]
    assert set(client.sent["runtime_env"]) == {"working_dir"} and client.sent["metadata"] == {
        "melray": "evaluate --run /r"
    }
    send(client, ROOT, sorted(PACKED), JobCommand(["evaluate", "--run", "/r"], {}), False)  # type: ignore[arg-type]
    limits, *packages = client.sent["runtime_env"]["pip"]["packages"]
    assert f"ray[data,default,train,tune]=={version('ray')}" in packages and any(
        name.startswith("torch==") for name in packages
    )
    name = limits.removeprefix("--constraint ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/")
    assert name.encode() in client.package


def test_a_refusal_is_one_line() -> None:
    refusing = FakeClient(RuntimeError("Request failed with status code 500:\n Traceback …"))
    with pytest.raises(
        UserError, match=r"^the cluster did not do it: Request failed with status code 500: Traceback …$"
    ):
        send(refusing, ROOT, [], JobCommand(["evaluate"], {}), True)  # type: ignore[arg-type]


# The cluster


@pytest.fixture
def dashboard() -> Iterator[Callable[[int, object], str]]:
    """Starts something that answers every question with a state and a text."""
    servers = []

    def start(status: int, body: object) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, "", "the cluster asks for a token; set RAY_AUTH_TOKEN_PATH"),
        (403, "", "the cluster refuses the token of the test; it is another cluster's, or has expired"),
        (200, "<html>", "what answers there is not a Ray dashboard"),
        (404, "", "what answers there is not a Ray dashboard"),
        (302, "", "what answers there is not a Ray dashboard"),
        (
            200,
            {"ray_version": "2.9.3"},
            f"the cluster runs Ray 2.9.3, this machine {version('ray')}; install ray==2.9.3 here",
        ),
    ],
)
def test_what_is_wrong_with_a_cluster_is_one_line(
    status: int, body: object, message: str, dashboard: Callable[[int, object], str]
) -> None:
    server = JobServer(dashboard(status, body), Token("sesame", "the test"), here=False)
    with pytest.raises(UserError, match=re.escape(message)) as told:
        check_version(server)
    assert "\n" not in str(told.value) and "sesame" not in str(told.value) and server.url in str(told.value)


def test_nobody_there() -> None:
    with pytest.raises(
        UserError, match=r"^--address http://127.0.0.1:9: no Ray cluster answers there \(connection refused\)"
    ):
        get_json(JobServer("http://127.0.0.1:9", None, here=False), "/api/version")


def test_addresses(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    assert (
        job_server("auto").url == "http://127.0.0.1:8265"
        and job_server("https://a.b/ray/").url == "https://a.b/ray"
    )
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://h:1")
    assert job_server(None).url == "http://h:1"
    for wrong in ("h:6379", "ray://h:10001", "http://"):
        with pytest.raises(UserError, match="jobs go to a cluster's dashboard"):
            job_server(wrong)
    with pytest.raises(
        UserError, match="only jobs are taken there; use `melray submit --address http://h:8265 -- COMMAND"
    ):
        ray_address("http://h:8265")
    with pytest.raises(UserError, match=r"--address 127.0.0.1:9: no Ray cluster answers there"):
        ray_address("127.0.0.1:9")
    # With a cluster of `melray cluster up`, that one is meant; its token goes nowhere else.
    token = state_dir() / "cluster.token"
    write_token(token)
    mark = ProcessRef.of(psutil.Process())
    cluster = LocalCluster(
        address="127.0.0.2:5",
        dashboard="http://127.0.0.1:7",
        token=token,
        folder=own_home,
        cpus=1,
        nodes=(mark,),
    )
    save_state(cluster)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    here, other = job_server(None), job_server("http://h:1")
    assert (here.url, here.here) == ("http://127.0.0.1:7", True) and here.token == read_token(
        token, "the cluster's file"
    )
    assert (other.token, other.here) == (None, False)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # put back afterwards
    assert ray_address("auto") == "127.0.0.2:5"
    # A process that got the same id later is no cluster.
    save_state(cluster.model_copy(update={"nodes": (ProcessRef(pid=mark.pid, started=mark.started - 60),)}))
    assert running_cluster() is None


def test_a_token_is_closed_to_others_and_a_missing_one_is_told(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_token(own_home / "token")
    assert (
        stat.S_IMODE((own_home / "token").stat().st_mode) == 0o600
        and stat.S_IMODE(state_dir().stat().st_mode) == 0o700
    )
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    with pytest.raises(
        UserError,
        match="No such file or directory while reading the token that RAY_AUTH_TOKEN_PATH names: /nowhere/token",
    ):
        default_token()


# Jobs


def job(job_id: str, status: str, code: int | None = None, **more: Any) -> Any:
    values: dict[str, Any] = {
        "submission_id": job_id,
        "status": status,
        "driver_exit_code": code,
        "metadata": {},
        "entrypoint": "python x",
    }
    return SimpleNamespace(**values | {"start_time": 1_000_000, "end_time": 1_065_000, "message": ""} | more)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
        ("RUNNING", None, 0),
    ],
)
def test_exit_codes(status: str, code: int | None, expected: int) -> None:
    assert exit_code(job("a", status, code)) == expected


def test_the_table_shows_the_command_as_typed() -> None:
    jobs = [
        job("melray-a", "RUNNING", end_time=None, metadata={"melray": "extract  --data /d"}),
        job("b", "FAILED", entrypoint="x" * 300),
    ]
    lines = table(jobs, now=1_003.0, width=80)
    assert lines[0].split() == ["id", "state", "started", "took", "command"]
    assert "running" in lines[1] and "3.0 s" in lines[1] and lines[1].endswith("extract --data /d")
    assert "1 min 5 s" in lines[2] and len(lines[2]) == 80 and lines[2].endswith("…")


def test_an_unknown_job_is_told_with_the_nearest() -> None:
    client: Any = SimpleNamespace(
        list_jobs=lambda: [job("melray-extract-1", "RUNNING"), job(None, "RUNNING")]
    )  # type: ignore[arg-type]
    assert find(client, "melray-extract-1").status == "RUNNING"
    with pytest.raises(UserError, match=r"no job 'melray-extrakt-1'; did you mean 'melray-extract-1'\?"):
        find(client, "melray-extrakt-1")

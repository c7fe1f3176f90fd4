"""Submission of jobs: what is sent, errors for invalid commands and clusters, exit codes."""

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
from typing import Any

import pytest

from cluster.cli import run
from cluster.connection.address import JobServer, job_server, ray_address
from cluster.connection.dashboard import get_json, read_version
from cluster.connection.local_state import (
    LocalCluster,
    ProcessRef,
    clear_state,
    local_cluster,
    running_cluster,
    save_state,
    state_dir,
)
from cluster.connection.token import Token, default_token, read_token, write_token
from cluster.jobs.command import JobCommand, validate_command
from cluster.jobs.details import JobDetails, find_job, parse_job
from cluster.jobs.entrypoint import EntrypointResources, shell_command
from cluster.jobs.jobs import format_table
from cluster.jobs.package import packed_files, project_root
from cluster.jobs.submit import Job, needed_extras, new_job_id, send
from pipeline.io.errors import UserError

ROOT = project_root()
PACKED = set(packed_files(ROOT))


@pytest.fixture(autouse=True)
def separate_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide the user's tokens and cluster."""
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


class FakeClient:
    """Job client that records the submitted request and the package as it was then."""

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


def make_job(command: JobCommand, install_ray: str | None = None, **variables: str) -> Job:
    return Job(command, variables, EntrypointResources(), install_ray, 3600)


def submit_job(client: FakeClient, job: Job, files: list[Path] | None = None) -> str:
    return send(client, ROOT, sorted(PACKED) if files is None else files, job)  # type: ignore[arg-type]


def validate(*arguments: str, is_local: bool = False) -> JobCommand:
    return validate_command(list(arguments), ROOT, PACKED, is_local)


# Command


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_recording_of_show_is_resolved(first: bool) -> None:
    """It has no flag."""
    flags = ["--run", "runs/first", "--out", "/o/show.html"]
    command = ["show", "rec.flac", *flags] if first else ["show", *flags, "rec.flac"]
    job = validate(*command, is_local=True)
    folder = Path.cwd()
    assert job.arguments == [
        "show", f"{folder}/rec.flac", "--run", f"{folder}/runs/first", "--out", "/o/show.html"
    ]  # fmt: skip
    assert job.local_paths == {
        "--run": f"{folder}/runs/first", "--out": "/o/show.html", "RECORDING": f"{folder}/rec.flac"
    }  # fmt: skip
    flags[1] = "s3://b/run"
    with pytest.raises(UserError, match=r"^RECORDING rec.flac: relative paths do not persist on the cluster"):
        validate("show", *(["rec.flac", *flags] if first else [*flags, "rec.flac"]))
    assert validate("show", "s3://b/rec.flac", *flags).arguments[1] == "s3://b/rec.flac"


def test_printed_commands_name_the_cluster() -> None:
    remote = JobServer("http://10.0.0.5:8265", None, is_local=False)
    assert remote.address_flag == " --address http://10.0.0.5:8265"
    assert JobServer("http://127.0.0.1:8265", None, is_local=True).address_flag == ""


def test_entrypoint_survives_the_shell() -> None:
    arguments = ["extract", "--data", "/a b/it's $HOME", "--group-pattern", r'^\d-(\d+)-"']
    line = shell_command(arguments).replace("python -m cluster", "printf '%s\\n'", 1)
    printed = subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed == [*arguments, "--address", "auto"]


def test_job_id_holds_command_and_time() -> None:
    assert re.fullmatch(r"melray-train-gan-\d{8}-\d{6}-[0-9a-f]{4}", new_job_id("train-gan"))
    assert len({new_job_id("extract") for _ in range(20)}) > 15


def test_relative_paths_are_rejected_for_remote_clusters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^--data sounds: relative paths do not persist on the cluster"):
        validate("extract", "--data", "sounds", "--out=/shared/shards")
    with pytest.raises(UserError, match=r"^--out runs/demo: "):
        validate("demo")


@pytest.mark.parametrize("is_local", [True, False], ids=["local", "remote"])
@pytest.mark.parametrize("in_file", [False, True], ids=["flag", "file"])
def test_words_are_no_paths(is_local: bool, in_file: bool, tmp_path: Path) -> None:
    """`auto` is not the name of a folder."""
    arguments = ["extract", "--data", "s3://b/sounds", "--out", "s3://b/shards", "--window", "5"]
    if in_file:
        (tmp_path / "settings.yaml").write_text("annotations: auto")
        arguments += ["--config", str(tmp_path / "settings.yaml")]
    else:
        arguments += ["--annotations", "auto"]
    job = validate(*arguments, is_local=is_local)
    assert str(job.config.annotations) == "auto"  # type: ignore[attr-defined]
    assert not any(argument.endswith("/auto") for argument in job.arguments)
    assert job.local_paths == {}


@pytest.mark.parametrize(
    ("command", "extras"),
    [
        ("train-classifier --shards /s --run /r --model.arch timm:resnet18", ["timm"]),
        ("train-classifier --shards /s --run /r", []),
        ("export --run /r --out /o/model.onnx", ["export"]),
        ("extract --data hf://datasets/a/b --out /s", ["hf"]),
    ],
)
def test_optional_packages_of_a_command_are_installed(command: str, extras: list[str]) -> None:
    job = validate(*command.split())
    assert needed_extras(job.key, job.config) == extras


def test_relative_paths_become_absolute_for_local_clusters(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["extract", "--data", "sounds", "--out=/shared/shards"]
    resolved = ["extract", "--data", str(tmp_path / "sounds"), "--out=/shared/shards"]
    assert validate(*arguments, is_local=True).arguments == resolved
    arguments = "train-classifier --shards a --run /r --extra-shards b /c --epochs 3".split()
    resolved = validate(*arguments, is_local=True).arguments
    assert resolved[6:9] == [str(tmp_path / "b"), "/c", "--epochs"]
    assert validate("demo", is_local=True).arguments == ["demo", "--out", str(tmp_path / "runs/demo")]


def test_packed_paths_stay_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = ["tune", "--shards", "/s", "--run", "/r", "--space", "conf/search.yaml"]
    assert validate(*arguments).arguments == arguments


def test_config_file_is_packed_and_its_paths_resolved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    config = tmp_path / "settings.yaml"
    config.write_text("shards: datasets/a\nepochs: 3\n")
    arguments = ["train-classifier", "--config", str(config), "--run", "/r"]
    with pytest.raises(UserError, match="--shards datasets/a: relative paths do not persist"):
        validate(*arguments)
    command = validate(*arguments, is_local=True)
    resolved = "train-classifier --config submitted/settings.yaml --run /r".split()
    assert command.arguments == [*resolved, "--shards", str(ROOT / "datasets/a")]
    assert command.files == {"submitted/settings.yaml": config.read_bytes()}
    # A flag takes precedence over the file, whose path then needs no flag.
    assert validate(*arguments, "--shards", "/s").arguments == [*resolved, "--shards", "/s"]


def test_common_flags_are_passed_to_the_job() -> None:
    assert validate("evaluate", "--run", "/r", "--quiet").arguments[3:] == ["--log-level", "warning"]
    assert validate("evaluate", "--debug", "--run", "/r").arguments[3:] == ["--debug"]
    flags = ["--no-ray", "--cpus", "2"]
    assert validate("extract", "--data", "/d", "--out", "/o", *flags).arguments[-3:] == flags
    assert validate("extract", "--data", "/d", "--out", "/o", "--ray").arguments[-1:] == ["--ray"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extrakt"], "unknown command 'extrakt'; did you mean 'extract'?"),
        (["submit"], "`melray submit` cannot be submitted as a job"),
        (["extract", "--address", "auto"], "--address auto must come before `--`"),
        (["extract", "--data", "/d", "--out", "/o", "--copies", "-1"], "--copies -1: "),
        (
            ["extract", "--data", "/d", "--out", "/o", "--cpus", "2"],
            "--cpus 2: a job uses the CPUs of its cluster",
        ),
    ],
)
def test_invalid_command_is_rejected_before_submission(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["submit", "--address", "http://127.0.0.1:9", "--", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_missing_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["submit", "--follow"]) == 2
    assert "no command: use melray submit [flags] -- COMMAND" in capsys.readouterr().err


# Request


def test_token_is_never_sent_or_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "sesame-open")
    client = FakeClient()
    submit_job(client, make_job(validate("evaluate", "--run", "/r"), version("ray")))
    assert "sesame" not in json.dumps(client.sent) and b"sesame" not in client.package
    assert "sesame" not in str(default_token()) + "".join(capfd.readouterr())
    assert default_token().header == {"Authorization": "Bearer sesame-open"}  # type: ignore[union-attr]


def test_dependencies_are_installed_unless_preinstalled() -> None:
    client, command = FakeClient(), validate("evaluate", "--run", "/r")
    submit_job(client, make_job(command))
    assert set(client.sent["runtime_env"]) == {"working_dir"} and client.sent["metadata"] == {
        "melray": "evaluate --run /r"
    }
    submit_job(client, make_job(command, "2.99.0"))
    constraint, *packages = client.sent["runtime_env"]["pip"]["packages"]
    assert "ray[data,default,train,tune]==2.99.0" in packages
    assert any(name.startswith("torch==") for name in packages)
    name = constraint.removeprefix("--constraint ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/")
    assert name.encode() in client.package


def test_installation_may_take_longer_than_by_default() -> None:
    client = FakeClient()
    submit_job(client, make_job(validate("evaluate", "--run", "/r"), version("ray")))
    assert client.sent["runtime_env"]["config"] == {"setup_timeout_seconds": 3600}


def test_variables_are_sent_to_the_job_only() -> None:
    client = FakeClient()
    submit_job(client, make_job(validate("evaluate", "--run", "/r"), AWS_SECRET_ACCESS_KEY="sesame-open"))
    assert client.sent["runtime_env"].pop("env_vars") == {"AWS_SECRET_ACCESS_KEY": "sesame-open"}
    assert "sesame" not in json.dumps(client.sent) and b"sesame" not in client.package


def test_rejected_request_is_a_one_line_error() -> None:
    client = FakeClient(RuntimeError("Request failed with status code 500:\n Traceback …"))
    with pytest.raises(
        UserError, match=r"^request failed: Request failed with status code 500: Traceback …$"
    ):
        submit_job(client, make_job(validate("evaluate", "--run", "/r")), [])


def test_rejected_request_does_not_show_values() -> None:
    client = FakeClient(RuntimeError("invalid: {'env_vars': {'KEY': 'sesame-open'}}"))
    with pytest.raises(UserError, match="'KEY': '<KEY>'"):
        submit_job(client, make_job(validate("evaluate", "--run", "/r"), KEY="sesame-open"), [])


# Cluster


@pytest.fixture
def dashboard() -> Iterator[Callable[[int, object], str]]:
    """Return a function that starts an HTTP server with a fixed status and body, and returns its URL."""
    servers = []

    def start(status: int, body: object) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, "", "requires a token; set RAY_AUTH_TOKEN_PATH"),
        (403, "", "token rejected (from the test); it belongs to another cluster or has expired"),
        (200, "<html>", "not a Ray dashboard"),
        (404, "", "not a Ray dashboard"),
        (302, "", "not a Ray dashboard"),
        (200, {"version": "4"}, "not a Ray dashboard"),
        (502, "", "the dashboard responded with error 502"),
    ],
)
def test_dashboard_problem_is_a_one_line_error(
    status: int, body: object, message: str, dashboard: Callable[[int, object], str]
) -> None:
    server = JobServer(dashboard(status, body), Token("sesame", "the test"), is_local=False)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_version(server)
    assert (
        "\n" not in str(error.value) and "sesame" not in str(error.value) and server.url in str(error.value)
    )


def test_closed_port_is_a_one_line_error() -> None:
    with pytest.raises(
        UserError,
        match=r"^--address http://127.0.0.1:9: no Ray cluster at this address \(connection refused\)",
    ):
        get_json(JobServer("http://127.0.0.1:9", None, is_local=False), "/api/version")


def test_job_server_needs_a_dashboard_url(separate_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_server("auto").url == "http://127.0.0.1:8265"
    assert job_server("https://a.b/ray/").url == "https://a.b/ray"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://h:1")
    assert job_server(None).url == "http://h:1"
    for invalid in ("h:6379", "ray://h:10001", "http://", "http://[::1", "http://localhost:99999"):
        with pytest.raises(UserError, match="expected a dashboard URL such as http://HOST:8265"):
            job_server(invalid)


def test_ray_address_rejects_dashboard_urls_and_closed_ports(separate_home: Path) -> None:
    with pytest.raises(
        UserError, match="this is a dashboard URL; use `melray submit --address http://h:8265 -- COMMAND"
    ):
        ray_address("http://h:8265")
    with pytest.raises(UserError, match=r"--address 127.0.0.1:9: no Ray cluster at this address"):
        ray_address("127.0.0.1:9")


def local_cluster_of(folder: Path) -> LocalCluster:
    """Return a cluster that this process seems to run."""
    import psutil

    return LocalCluster(
        address="127.0.0.2:5",
        dashboard="http://127.0.0.1:7",
        token=folder / "token",
        folder=folder,
        nodes=1,
        cpus=1,
        supervisor=ProcessRef.of(psutil.Process()),
    )


def test_hosts_that_share_a_home_have_clusters_of_their_own(
    separate_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("platform.node", lambda: "login1.site.org")
    first = local_cluster_of(separate_home)
    save_state(first)
    monkeypatch.setattr("platform.node", lambda: "login2.site.org")
    assert local_cluster() is None and not job_server(None).is_local
    save_state(first.model_copy(update={"dashboard": "http://127.0.0.1:8"}))
    clear_state()
    monkeypatch.setattr("platform.node", lambda: "login1.site.org")
    assert local_cluster() == first


def test_local_cluster_is_default_and_keeps_token(
    separate_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = local_cluster_of(separate_home)
    token = cluster.token
    write_token(token)
    save_state(cluster)
    local, remote = job_server(None), job_server("http://h:1")
    assert job_server("http://localhost:7") == job_server("http://127.0.0.1:7/") == local
    assert not job_server("http://localhost:8").is_local
    assert (local.url, local.is_local) == ("http://127.0.0.1:7", True)
    assert local.token == read_token(token, "the cluster's file")
    assert (remote.token, remote.is_local) == (None, False)
    # A token that the user has set is that of another cluster: this one has only its own.
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret of a remote cluster")
    assert job_server(None).token == local.token
    assert job_server("http://h:1").token == Token("secret of a remote cluster", "RAY_AUTH_TOKEN")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that they are restored afterwards
    assert ray_address("auto") == "127.0.0.2:5"
    # A process that reuses the id of the head is not a cluster.
    head = cluster.supervisor
    reused = ProcessRef(pid=head.pid, started=head.started - 60)
    save_state(cluster.model_copy(update={"supervisor": reused}))
    assert running_cluster() is None


def test_token_file_is_readable_by_its_owner_only(separate_home: Path) -> None:
    write_token(separate_home / "token")
    assert stat.S_IMODE((separate_home / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir().stat().st_mode) == 0o700


def test_missing_token_file_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere/token")
    message = "No such file or directory while reading the token of RAY_AUTH_TOKEN_PATH: /nowhere/token"
    with pytest.raises(UserError, match=message):
        default_token()


# Jobs


def job(job_id: str, status: str, code: int | None = None, **more: Any) -> JobDetails:
    entry = {"submission_id": job_id, "status": status, "driver_exit_code": code, "entrypoint": "python x"}
    return parse_job(entry | {"metadata": None, "start_time": 1_000_000, "end_time": 1_065_000} | more)


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
def test_exit_code_matches_the_job_state(status: str, code: int | None, expected: int) -> None:
    assert job("a", status, code).exit_code == expected


def test_failure_reason_is_the_last_line_of_the_message() -> None:
    message = "runtime_env setup failed:\npip …\nERROR: No matching distribution\n"
    assert job("a", "FAILED", message=message).failure_reason == "ERROR: No matching distribution"


def test_job_table_shows_commands_as_typed() -> None:
    jobs = [
        job("melray-a", "RUNNING", end_time=None, metadata={"melray": "extract  --data /d"}),
        job("b", "FAILED", entrypoint="x" * 300),
    ]
    lines = format_table(jobs, now=1_003.0, width=80)
    assert lines[0].split() == ["id", "state", "started", "took", "command"]
    assert "running" in lines[1] and "3.0 s" in lines[1] and lines[1].endswith("extract --data /d")
    assert "1 min 5 s" in lines[2] and len(lines[2]) == 80 and lines[2].endswith("…")


def test_unknown_job_error_suggests_the_closest_id(dashboard: Callable[[int, object], str]) -> None:
    entries = [
        {"submission_id": name, "status": "RUNNING", "entrypoint": "x"} for name in ("melray-extract-1", None)
    ]
    server = JobServer(dashboard(200, entries), None, is_local=False)
    assert find_job(server, "melray-extract-1").status == "RUNNING"
    with pytest.raises(UserError, match=r"no job 'melray-extrakt-1'; did you mean 'melray-extract-1'\?"):
        find_job(server, "melray-extrakt-1")

"""`melray serve` before it starts anything: names of runs, token file, port, and errors in one line."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from cluster.arguments.flags import parse
from cluster.cli import run
from cluster.serving import serve
from cluster.serving.config import ServeConfig
from cluster.serving.models import load_models
from cluster.serving.token import read_serve_token, token_file
from models.config import ConfigError
from pipeline.io.errors import UserError


def config(**settings: object) -> ServeConfig:
    return ServeConfig(**{"run": ("run",)} | settings)


@pytest.mark.parametrize(
    "flags", [["--run", "a", "b"], ["--run", "a", "--run", "b"], ["--run=a", "--port", "1", "--run", "b"]]
)
def test_several_runs_are_accepted_either_way(flags: list[str]) -> None:
    assert parse(ServeConfig, "serve", flags).run == (Path("a").absolute(), Path("b").absolute())


def test_runs_of_equal_names_get_a_number(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "birds").symlink_to(classifier_run)  # the same folder by another path
    copy = tmp_path / "copy" / "birds"
    copy.mkdir(parents=True)
    for file in classifier_run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert [model.name for model in load_models([classifier_run, copy])] == ["birds", "birds-2"]
    with pytest.raises(UserError, match="birds: given twice"):
        load_models([classifier_run, tmp_path / "birds"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert token_file(config(host=host)) is None


def test_token_of_other_host_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))
    path = token_file(config(host="0.0.0.0"))
    assert path is not None and path.parent == tmp_path / "cache"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = read_serve_token(path)
    assert len(token) == 64
    assert token_file(config(host="10.0.0.1")) == path and read_serve_token(path) == token


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("secret", 0o640, "other users may read it; run `chmod 600"),
        ("", 0o600, "the token file is empty"),
        ("two words", 0o600, "without spaces"),
        ("schlüssel", 0o600, "ASCII characters"),
    ],
)
def test_unusable_token_file_is_user_error(tmp_path: Path, content: str, mode: int, message: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(UserError, match=message):
        read_serve_token(token_file(config(token_file=path)) or path)


def test_more_replicas_than_maximum_is_error() -> None:
    with pytest.raises(ConfigError, match="--max-replicas 1: less than --replicas 2"):
        config(replicas=2, max_replicas=1)


def error_of(capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """Run `melray serve`, which fails; return its error, which is one line."""
    assert run(["serve", *map(str, flags)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("melray: error: ") and error.count("\n") == 1
    return error.removeprefix("melray: error: ").rstrip()


def test_port_in_use_is_reported_before_ray_starts(
    classifier_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = error_of(capsys, "--run", classifier_run, "--port", port)
    assert error == f"--port {port}: in use on 127.0.0.1; choose another, or 0 for any"


def test_foreign_host_is_reported(
    classifier_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--run", classifier_run, "--host", "192.0.2.1", "--token-file", tmp_path / "token"]
    assert error_of(capsys, *flags).startswith("--host 192.0.2.1: cannot listen there")


def test_missing_run_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert error_of(capsys, "--run", tmp_path / "gone") == f"--run {tmp_path / 'gone'}: no such folder"


def test_missing_package_is_reported(
    classifier_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "REQUIRED", ("ray.serve", "no_such_package"))
    error = error_of(capsys, "--run", classifier_run)
    assert error == "melray serve needs no_such_package: pip install 'melray[serve]'"

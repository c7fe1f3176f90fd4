"""Commands on an object store that refuses them: one line with the reason, and nothing is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli import run
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generation_folder import start_job
from pipeline.io.store_errors import StoreError
from tests.helpers.s3_server import S3Server, s3_server
from tests.helpers.sounds import train_config, write_shards

SECRET = "FQoGZXIvYXdzSESSION"
EXPIRED = f"<Error><Code>ExpiredToken</Code><Message>Expired.</Message><Token-0>{SECRET}</Token-0></Error>"


@pytest.fixture
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def expire(server: S3Server, *kinds: str) -> None:
    server.configure(errors={kind: (400, "" if kind == "HEAD" else EXPIRED) for kind in kinds})


@pytest.mark.timeout(300)  # of which imports take most
def test_expired_credentials_are_one_line_from_every_command(
    server: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.bucket("lab")
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {low: 0.001, high: 0.01, log: true}\n", encoding="utf-8")
    expire(server, "GET", "HEAD", "LIST", "PUT", "DELETE", "DELETE many")

    def uri(name: str) -> str:
        return f"s3://lab/{name}?endpoint={server.endpoint}&region=us-east-1"

    commands = {
        "extract": ["--data", uri("audio"), "--out", uri("shards")],
        "train-classifier": ["--shards", uri("shards"), "--run", uri("run")],
        "train-gan": ["--shards", uri("shards"), "--run", uri("run")],
        "crossval": ["--shards", uri("shards"), "--run", uri("run")],
        "tune": ["--shards", uri("shards"), "--run", uri("run"), "--space", str(space)],
        "evaluate": ["--run", uri("run")],
        "predict": ["--run", uri("run"), "--audio", uri("audio"), "--out", uri("out")],
        "generate": ["--run", uri("run"), "--out", uri("out")],
        "show": ["--run", uri("run"), uri("audio/1.wav"), "--out", uri("page.html")],
        "export": ["--run", uri("run"), "--out", uri("model.onnx")],
        "serve": ["--run", uri("run")],
    }
    for command, flags in commands.items():
        assert run([command, *flags]) == 2, command
        output = capsys.readouterr()
        last = output.err.strip().splitlines()[-1]
        assert last.startswith("melray: error: permission denied while ") and "s3://lab" in last, command
        assert "s3://lab denies access (ExpiredToken: Expired.); check credentials" in last, command
        assert "Traceback" not in output.err and SECRET not in output.err + output.out, command


def test_results_are_kept_if_their_settings_cannot_be_read(server: S3Server) -> None:
    out = server.bucket("lab") / "generated"
    config = GenerateConfig(run=server.bucket("lab") / "run", out=out)
    start_job(config, {"seed": 1, "as_shards": False})
    (out / "generated.csv").write_text("file\ndog/0.wav\n")
    (out / "dog/0.wav").write_bytes(b"sound")
    expire(server, "GET")
    with pytest.raises(StoreError, match="ExpiredToken"):
        start_job(config, {"seed": 1, "as_shards": False})
    server.configure(errors={})
    assert (out / "dog/0.wav").is_file() and (out / "generated.csv").is_file()


def test_another_generation_replaces_the_audio_in_a_bucket(server: S3Server) -> None:
    out = server.bucket("lab") / "generated"
    config = GenerateConfig(run=server.bucket("lab") / "run", out=out)
    start_job(config, {"seed": 1, "as_shards": False})
    (out / "generated.csv").write_text("file\ndog/0.wav\ndog/1.wav\n")
    for name in ("dog/0.wav", "dog/0.png", "dog/1.wav", "dog/mine.wav"):
        (out / name).write_bytes(b"sound")
    start_job(config, {"seed": 2, "as_shards": False})
    assert [path.name for path, _ in out.walk()] == ["mine.wav", "generated.json"]


DENIED = "<Error><Code>AccessDenied</Code><Message>not allowed</Message></Error>"


def deny(server: S3Server, *kinds: str) -> None:
    server.configure(errors=dict.fromkeys(kinds, (403, DENIED)))


@pytest.mark.timeout(120)
def test_a_bucket_that_refuses_deletes_is_found_before_the_work(
    server: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = server.bucket("lab")
    shards = write_shards(tmp_path, copies=0)
    deny(server, "DELETE", "DELETE many")
    commands = {
        "extract": ["--data", str(tmp_path / "data"), "--out", str(bucket / "shards")],
        "train-classifier": ["--shards", str(shards), "--run", str(bucket / "run")],
        "train-gan": ["--shards", str(shards), "--run", str(bucket / "run")],
        "crossval": ["--shards", str(shards), "--run", str(bucket / "run")],
    }
    for command, flags in commands.items():
        assert run([command, *flags]) == 2, command
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith(f"melray: error: {flags[2]} s3://lab/"), command
        assert "s3://lab denies access (AccessDenied: not allowed); old locks, checkpoints and" in last, (
            command
        )
        assert last.endswith("grant that right, such as s3:DeleteObject"), command
    assert list(bucket.walk()) == []


@pytest.mark.timeout(120)
def test_a_bucket_that_refuses_writes_is_found_before_the_evaluation(
    server: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = server.bucket("lab") / "evaluation"
    config = train_config(write_shards(tmp_path, copies=0), tmp_path / "run", epochs=1)
    begin_run(config)
    train_in_process(config)
    command = ["evaluate", "--run", str(config.run), "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.classifier.evaluate.predict_any", lambda *_: pytest.fail("evaluated"))
        deny(server, "PUT")
        assert run(command) == 2
    assert "denied while writing to s3://lab/evaluation" in capsys.readouterr().err.strip().splitlines()[-1]
    deny(server)
    assert run(command) == 0
    files = {"evaluation.json", "confusion.csv", "report.html"}
    assert {path.name for path, _ in out.walk()} == files
    deny(server, "DELETE", "DELETE many")  # no right that an evaluation needs
    assert run([*command[:-1], str(out / "again")]) == 0
    assert {path.name for path, _ in (out / "again").walk()} == {*files, ".writable"}

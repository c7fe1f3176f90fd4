"""Runs in Weights & Biases, offline: what it has written is read back from its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.audio.waveform import write_wav
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path
from pipeline.training.run_folder import RunFolder
from pipeline.training.trackers.follower import Command, Follower
from pipeline.training.trackers.tracked_runs import training_runs
from pipeline.training.trackers.wandb_client import WandbTracker
from tests.helpers.sounds import tone
from tests.helpers.wandb_files import offline_runs

pytest.importorskip("wandb")

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)


def follow(run: Path) -> Follower:
    """Follow a run as a new command does."""
    command = Command(run, training_runs, {"workers": 1}, "project")
    return Follower(command, "wandb", WandbTracker(run), lambda seconds: None)


def test_resumed_run_has_its_id_and_no_epoch_twice(run: Path) -> None:
    folder = RunFolder(run)
    history = folder.read_history()
    folder.write_history(history[:2])
    (run / "summary.json").rename(run / "later.json")
    first = follow(run)
    first.poll()
    first.finish("stopped")
    # The checkpoint was older than the last epoch that was sent.
    folder.write_history(history[:1])
    second = follow(run)
    second.poll()
    folder.write_history(history)
    second.poll()
    (run / "later.json").rename(run / "summary.json")
    second.finish("finished")
    sessions = offline_runs(run)
    assert len({session.id for session in sessions}) == 1 and len(sessions) == 2
    assert [session.summary["state"] for session in sessions] == ["stopped", "finished"]
    rows = [row for session in sessions for row in session.history]
    assert [row["_step"] for row in rows] == [1, 2, 3, 4]
    assert [row["train/loss"] for row in rows] == [metrics["train_loss"] for metrics in history]
    assert (sessions[0].name, sessions[0].group, sessions[0].kind) == ("first", "first", "run")
    assert sessions[0].config["learning_rate"] == 2e-3 and sessions[0].config["workers"] == 1


def test_model_and_results_are_artifacts_without_pickle(run: Path) -> None:
    (run / "report.html").write_text("<p>report</p>")
    follow(run).finish("finished")
    artifacts = offline_runs(run)[0].artifacts
    assert artifacts["model"] == ["model.json", "model.safetensors"]
    assert {"report.html", "summary.json", "config.json"} <= set(artifacts["results"])
    follow(run).finish("finished")
    assert offline_runs(run)[1].artifacts == {}, "nothing has changed"
    (run / "report.html").write_text("<p>another report</p>")
    follow(run).finish("finished")
    assert offline_runs(run)[2].artifacts == {"results": ["report.html"]}


def test_samples_are_media_of_their_epoch(run: Path) -> None:
    for name in ("real", "epoch_0002"):
        folder = run / "samples" / name
        folder.mkdir(parents=True)
        write_wav(folder / "dog_1.wav", tone(440), 8000)
        (folder / "grid.png").write_bytes(PNG)
        (folder / "first.safetensors").write_bytes(b"x")
    follow(run).finish("finished")
    rows = offline_runs(run)[0].history
    kinds = {key: value for key, value in rows[1].items() if key.endswith("._type")}
    assert kinds == {
        "real/dog_1._type": "audio-file",
        "real/grid._type": "image-file",
        "samples/dog_1._type": "audio-file",
        "samples/grid._type": "image-file",
    }
    assert not [key for row in (rows[0], *rows[2:]) for key in row if key.startswith(("samples/", "real/"))]


def test_offline_files_are_not_lost_with_remote_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = to_path("s3://bucket/runs/first")
    with pytest.raises(UserError, match=r"WANDB_MODE=offline: .* set WANDB_DIR"):
        WandbTracker(run)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    WandbTracker(run)

"""Log of a run: the current step is written in the background, whatever the storage does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.training import log as log_module
from pipeline.training.log import RunLog
from pipeline.training.run_folder import RunFolder
from tests.helpers.s3_server import s3_server


class SlowRunFolder(RunFolder):
    """Run folder in storage that needs a long time for each write of the current step."""

    def write_json(self, name: str, values: Any) -> None:
        if name == "progress.json":
            time.sleep(0.5)
        super().write_json(name, values)


def test_step_is_written_with_rate_and_time_left(tmp_path: Path):
    log = RunLog(RunFolder(tmp_path), True, [], epochs=3)
    log.step(2, 10, 40, time.perf_counter() - 5)
    log.close()
    progress = RunFolder(tmp_path).read_json("progress.json")
    assert list(progress) == ["epoch", "epochs", "step", "steps", "steps_per_second", "seconds_left"]
    assert [progress[name] for name in ("epoch", "epochs", "step", "steps")] == [2, 3, 10, 40]
    assert progress["steps_per_second"] == pytest.approx(2, rel=0.1)
    assert progress["seconds_left"] == pytest.approx(35, rel=0.1)


def test_log_without_tensorboard_has_metrics_only(tmp_path: Path):
    log = RunLog(RunFolder(tmp_path), True, [], epochs=1, tensorboard=False)
    log.step(1, 1, 2, time.perf_counter())
    log.epoch([{"epoch": 1, "train_loss": 0.5}])
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "progress.json"]


def test_slow_storage_does_not_delay_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_module, "PROGRESS_INTERVAL_S", 0.0)
    run, start = SlowRunFolder(tmp_path), time.perf_counter()
    log = RunLog(run, True, [], epochs=1)
    durations = []
    for step in range(1, 1001):
        step_start = time.perf_counter()
        log.step(1, step, 1000, start)
        durations.append(time.perf_counter() - step_start)
    assert sorted(durations)[500] < 100e-6
    log.close()
    assert run.read_json("progress.json")["step"] == 1000


def test_steps_are_written_once_per_second(tmp_path: Path):
    run, start = RunFolder(tmp_path), time.perf_counter()
    log = RunLog(run, True, [], epochs=1)
    for step in range(1, 100):
        log.step(1, step, 100, start)
    log.close()
    assert run.read_json("progress.json")["step"] == 1


def test_step_in_deleted_folder_raises_nothing(tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    log = RunLog(RunFolder(folder), True, [], epochs=1)
    folder.rename(tmp_path / "moved")
    log.step(1, 1, 2, time.perf_counter())
    (tmp_path / "moved").rename(folder)
    log.close()


def test_inactive_log_writes_nothing(tmp_path: Path):
    log = RunLog(RunFolder(tmp_path), False, [], epochs=1)
    log.step(1, 1, 2, time.perf_counter())
    log.epoch([{"epoch": 1}])
    log.warn("text")
    log.note("text")
    log.close()
    assert not list(tmp_path.iterdir())


def test_log_in_store_sends_few_requests(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_module, "PROGRESS_INTERVAL_S", 0.0)
    monkeypatch.setattr(log_module, "STORE_INTERVAL_S", 0.5)
    with s3_server() as server:
        run, history = RunFolder(server.bucket("runs") / "run"), []
        log = RunLog(run, True, [], epochs=2000)
        server.reset()
        start = time.perf_counter()
        while time.perf_counter() - start < 2:
            log.step(1, len(history) + 1, 2000, start)
            history.append({"epoch": len(history) + 1, "train_loss": 1.0})
            if len(history) % 100 == 0:
                log.epoch(history)
            time.sleep(0.001)
        log.close()
        requests = server.requests()
        epochs = len(history) // 100
        # The metrics of each epoch; the current step and the events for TensorBoard once in half a second.
        assert requests["PUT"] <= epochs + 2 * 6 and epochs > 2
        assert run.read_json("progress.json")["step"] == len(history)
        assert len(run.read_history()) == 100 * epochs
        assert [file for file in (run.path / "tensorboard").iterdir() if "tfevents" in file.name]

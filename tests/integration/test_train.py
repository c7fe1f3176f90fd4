"""Training on a cluster: runs whose worker or driver is killed end with the weights of uninterrupted ones."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.train
import torch

from models.classifier import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.classifier.predictor_model import load_predictor
from pipeline.classifier.train import begin_run, train_classifier, train_in_process
from pipeline.io.errors import UserError
from pipeline.training import ray_train
from pipeline.training.launch import run_tasks
from pipeline.training.run_folder import RunFolder
from pipeline.training.single_worker_runs import TrainingTask
from pipeline.training.world import World
from tests.helpers.processes import (
    kill_command_when,
    kill_worker,
    run_command,
    run_when,
    start_command,
    wait_until,
)
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import train_config, write_shards

# Slow enough that a worker can be killed in the middle of an epoch.
SLOW = {
    "model": ClassifierConfig(channels=(64, 64), convs_per_block=3, embedding_dim=16),
    "epochs": 6,
    "fold": 1,
}
# The same, with the other settings of `train_config`, as flags.
SLOW_FLAGS = (
    "--model.channels 64 64 --model.convs_per_block 3 --model.embedding_dim 16 --epochs 6 --fold 1 "
    "--mixup.rate 0.5 --spec-augment.roll 0.1 --batch-size 16 --warmup-epochs 1 --ema-decay 0.9 "
    "--precision fp32 --cpus-per-worker 1"
).split()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=20, copies=3)


@pytest.fixture(scope="module")
def expected_weights(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """Train without interruption; return the weights."""
    config = train_config(shards, tmp_path_factory.mktemp("uninterrupted"), **SLOW)
    torch.set_num_threads(1)
    train_loop(config, SINGLE_WORKER)
    return load_weights(config.run)


def logged_epochs(run: Path) -> list[int]:
    return [metrics["epoch"] for metrics in RunFolder(run).read_history()]


def assert_run_equals(run: Path, expected_weights: dict[str, torch.Tensor]) -> None:
    assert tensors_equal(load_weights(run), expected_weights)
    assert logged_epochs(run) == list(range(1, len(logged_epochs(run)) + 1))


def occupy_cpus(seconds: float) -> None:
    time.sleep(seconds)


def crash(config: TrainClassifierConfig, world: World) -> dict[str, Any]:
    """Training loop that kills its worker process, as running out of memory does."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_missing_resources_are_reported_immediately(self, shards: Path, tmp_path: Path) -> None:
        start_time = time.monotonic()
        with pytest.raises(UserError, match="needs 4 workers with 1 CPU each, but only 2 fit"):
            train_classifier(train_config(shards, tmp_path / "run", workers=4))
        with pytest.raises(
            UserError, match=r"needs 1 worker with 1 CPU and 1 GPU, but only 0 fit \(2 CPUs\)"
        ):
            train_classifier(train_config(shards, tmp_path / "run", gpus_per_worker=1))
        assert time.monotonic() - start_time < 5

    @pytest.mark.slow
    def test_busy_cpus_are_reported(
        self, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ray.remote(num_cpus=2)(occupy_cpus).remote(5.0)
        wait_until(lambda: not ray.available_resources().get("CPU"), 10)
        with caplog.at_level(logging.INFO, logger="melray"):
            assert train_classifier(train_config(shards, tmp_path / "run", epochs=1))["epochs"] == 1
        assert "waiting: 2 of 2 CPUs are in use by other jobs" in caplog.messages

    def test_killed_worker_does_not_change_weights(
        self, shards: Path, tmp_path: Path, expected_weights: dict[str, torch.Tensor]
    ) -> None:
        config: TrainClassifierConfig = train_config(shards, tmp_path / "run", **SLOW)
        killed = run_when(lambda: len(logged_epochs(config.run)) == 2, lambda: kill_worker("training"))
        train_classifier(config)
        assert killed.result()
        assert_run_equals(config.run, expected_weights)

    @pytest.mark.slow
    def test_repeatedly_lost_worker_ends_with_error(
        self, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = train_config(shards, tmp_path, max_failures=2)
        task = TrainingTask(crash, config, RunFolder(tmp_path))
        with pytest.raises(
            UserError, match=r"lost more than --max-failures 2 times.*resume from the last epoch"
        ):
            run_tasks({"fold 1": task}, config, cpus=1)
        warning = "fold 1: worker lost (WorkerCrashedError); resuming from the last epoch"
        assert caplog.messages.count(warning) == 2

    @pytest.mark.slow
    def test_two_workers_resume_after_one_is_killed(self, shards: Path, tmp_path: Path) -> None:
        config = train_config(shards, tmp_path / "run", **SLOW | {"workers": 2})
        killed = run_when(
            lambda: len(logged_epochs(config.run)) == 2, lambda: kill_worker("RayTrainWorker", -1)
        )
        summary = train_classifier(config)
        assert killed.result()
        assert summary["epochs"] == 6
        assert logged_epochs(config.run) == [1, 2, 3, 4, 5, 6]

    @pytest.mark.slow
    def test_epochs_are_reported_to_ray_train(
        self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "reports"

        class WriteReports(ray.train.UserCallback):
            def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
                with path.open("a") as file:
                    file.write(json.dumps(metrics) + "\n")

        monkeypatch.setattr(ray_train, "_end_after_error", WriteReports)
        config = train_config(shards, tmp_path / "run", workers=2, epochs=5)
        train_classifier(config)
        history = {metrics["epoch"]: metrics for metrics in RunFolder(config.run).read_history()}
        reports = [json.loads(line) for line in path.read_text().splitlines()]
        assert [ranks[0]["epoch"] for ranks in reports] == sorted({ranks[0]["epoch"] for ranks in reports})
        assert reports[-1][0]["epoch"] == 5
        for main, other in reports:
            assert main == history[main["epoch"]]
            assert other["epoch"] == main["epoch"]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_user_error_in_worker_is_not_retried(self, shards: Path, tmp_path: Path, workers: int) -> None:
        with pytest.raises(UserError, match=r"--fold 9: fold not found"):
            train_classifier(train_config(shards, tmp_path / "run", fold=9, workers=workers))

    def test_training_that_could_not_start_accepts_other_settings(self, shards: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        with pytest.raises(UserError, match="1 worker with 999 CPUs"):
            train_classifier(train_config(shards, run, epochs=5, cpus_per_worker=999))
        assert train_classifier(train_config(shards, run, epochs=1))["epochs"] == 1

    def test_complete_run_is_not_trained_again(
        self, shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = train_config(shards, tmp_path / "run", epochs=1)
        summary = train_classifier(config)
        with caplog.at_level(logging.INFO, logger="melray"):
            assert train_classifier(config) == summary
        assert f"run {config.run} is already complete" in caplog.messages
        with pytest.raises(UserError, match=r"contains a run with epochs = 1 \(requested 2\)"):
            train_classifier(train_config(shards, tmp_path / "run", epochs=2))


def test_killed_driver_resumes_with_same_weights(
    shards: Path, tmp_path: Path, expected_weights: dict[str, torch.Tensor]
) -> None:
    run = tmp_path / "run"
    command = ("train-classifier", "--shards", shards, "--run", run, *SLOW_FLAGS, "--cpus", 2)
    kill_command_when(lambda: len(logged_epochs(run)) == 2, *command, log=tmp_path / "log")
    assert not (run / "summary.json").exists()
    rerun = run_command(*command)
    assert rerun.returncode == 0, rerun.stderr
    assert "resuming from epoch" in rerun.stderr
    assert_run_equals(run, expected_weights)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_ensemble_refit_resumes_with_same_weights(shards: Path, tmp_path: Path) -> None:
    """Killed twice: in the run with validation, and in that on all clips."""
    options = {"refit": True, "ensemble": 2, "epochs": 3}
    expected = train_config(shards, tmp_path / "expected", **SLOW | options)
    torch.set_num_threads(1)
    begin_run(expected)
    train_in_process(expected)
    run = tmp_path / "run"
    settings = " ".join(SLOW_FLAGS).replace("--epochs 6", "--epochs 3").split()
    flags = [*settings, "--refit", "--ensemble", 2, "--cpus", 2]
    command = ("train-classifier", "--shards", shards, "--run", run, *flags)
    for part, epochs in (("member_1/validated", 2), ("member_2", 1)):
        condition = partial(lambda part, epochs: len(logged_epochs(run / part)) >= epochs, part, epochs)
        kill_command_when(condition, *command, log=tmp_path / "log", timeout_s=200)
    assert not (run / "summary.json").exists()
    rerun = run_command(*command, timeout=300)
    assert rerun.returncode == 0, rerun.stderr
    for member in ("member_1", "member_2"):
        assert_run_equals(run / member, load_weights(expected.run / member))
    assert load_predictor(run).model.temperature == load_predictor(expected.run).model.temperature


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_exits_cleanly_with_resume_hint(shards: Path, tmp_path: Path, workers: int) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    command = ("train-classifier", "--shards", shards, "--run", run, *SLOW_FLAGS, "--cpus", 2)
    driver = start_command(*command, "--workers", workers, log=log)
    wait_until(lambda: len(logged_epochs(run)) >= 1, timeout_s=150)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    output = log.read_text()
    assert "interrupted; run the command again to resume" in output and "Traceback" not in output
    assert (run / "model.safetensors").is_file()


def test_outlived_worker_does_not_write_to_run(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path)
    outlived_owner = RunFolder(config.run).acquire()
    RunFolder(config.run).acquire()
    with pytest.raises(UserError, match="another process has taken over this run"):
        train_loop(config, SINGLE_WORKER, outlived_owner)
    assert not (config.run / "model.safetensors").exists()

"""Training on a cluster: workers and drivers may die, the weights are those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import ray
import torch

from models.classifier import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.classifier.train import train_classifier
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import load_tensors
from pipeline.training.launch import Task, run_tasks
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.processes import kill, kill_worker, later, run, start, wait_for
from tests.helpers.sounds import train_config, write_shards

# Slow enough on any machine for a fault to fall into the middle of an epoch.
SLOW = {
    "model": ClassifierConfig(channels=(64, 64), convs_per_block=3, embedding_dim=16),
    "epochs": 6,
    "fold": 1,
}
SLOW_FLAGS = (
    "--model.channels 64 64 --model.convs_per_block 3 --model.embedding_dim 16 --epochs 6 --fold 1".split()
)
SMALL_FLAGS = "--mixup.rate 0.5 --spec-augment.roll 0.1 --batch-size 16 --warmup-epochs 1 --ema-decay 0.9 --precision fp32 --cpus-per-worker 1".split()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("tones"), clips=20, copies=3)


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    config = train_config(shards, tmp_path_factory.mktemp("undisturbed"), **SLOW)
    torch.set_num_threads(1)
    train_loop(config, World(0, 1, torch.device("cpu")))
    return load_tensors(config.run / "model.safetensors")[0]


def assert_same(run_folder: Path, expected: dict[str, torch.Tensor]) -> None:
    found = load_tensors(run_folder / "model.safetensors")[0]
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    epochs = [line["epoch"] for line in RunFolder(run_folder).read_history()]
    assert epochs == list(range(1, len(epochs) + 1))


def holds(seconds: float) -> None:
    """Other work."""
    time.sleep(seconds)


def dies(config: TrainClassifierConfig, world: World) -> dict[str, object]:
    """A training that takes its worker along, as one for which the memory is too small."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@pytest.mark.usefixtures("ray_session")
class TestInOneSession:
    def test_too_few_cpus_are_named_at_once(self, shards: Path, tmp_path: Path) -> None:
        start_time = time.monotonic()
        with pytest.raises(UserError, match="needs 4 workers with 1 CPU each; the cluster has room for 2"):
            train_classifier(train_config(shards, tmp_path / "run", workers=4))
        with pytest.raises(UserError, match=r"needs 1 worker with 1 CPU and 1 GPU; .* room for 0 \(2 CPUs\)"):
            train_classifier(train_config(shards, tmp_path / "run", gpus_per_worker=1))
        assert time.monotonic() - start_time < 5

    def test_other_work_that_holds_the_cpus_is_told(
        self, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ray.remote(num_cpus=2)(holds).remote(5.0)
        wait_for(lambda: not ray.available_resources().get("CPU"), 10)
        assert train_classifier(train_config(shards, tmp_path / "run", epochs=1))["epochs"] == 1
        assert (
            "other work holds 2 of 2 CPUs of the cluster: this begins when there is room"
            in capsys.readouterr().err
        )

    def test_a_worker_killed_in_an_epoch_changes_nothing(
        self, shards: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
    ) -> None:
        config: TrainClassifierConfig = train_config(shards, tmp_path / "run", **SLOW)
        killed = later(
            lambda: len(RunFolder(config.run).read_history()) == 2, lambda: kill_worker("training")
        )
        train_classifier(config)
        assert killed.result()
        assert_same(config.run, undisturbed)

    def test_one_that_is_lost_again_and_again_ends_with_one_line(
        self, shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        config = train_config(shards, tmp_path, max_failures=2)
        with pytest.raises(
            UserError,
            match=r"lost more than --max-failures 2 times.*the same command goes on from the last epoch",
        ):
            run_tasks({"fold 1": Task(dies, config, RunFolder(tmp_path))}, config, cpus=1)
        assert (
            capfd.readouterr().out.count(
                "fold 1: a worker was lost (WorkerCrashedError); going on from the last epoch"
            )
            == 2
        )

    def test_two_workers_go_on_after_one_is_killed(self, shards: Path, tmp_path: Path) -> None:
        config = train_config(shards, tmp_path / "run", **SLOW | {"workers": 2})
        killed = later(
            lambda: len(RunFolder(config.run).read_history()) == 2, lambda: kill_worker("RayTrainWorker", -1)
        )
        summary = train_classifier(config)
        assert killed.result()
        assert summary["epochs"] == 6
        assert [line["epoch"] for line in RunFolder(config.run).read_history()] == [1, 2, 3, 4, 5, 6]

    def test_a_users_fault_in_a_worker_is_one_line_and_not_retried(
        self, shards: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(UserError, match=r"--fold 9: no clip of that fold"):
            train_classifier(train_config(shards, tmp_path / "run", fold=9))

    def test_a_finished_run_is_not_trained_again(
        self, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = train_config(shards, tmp_path / "run", epochs=1)
        first = train_classifier(config)
        assert train_classifier(config) == first
        assert "finished already" in capsys.readouterr().out
        with pytest.raises(UserError, match=r"holds a run with epochs = 1 \(now 2\)"):
            train_classifier(train_config(shards, tmp_path / "run", epochs=2))


def test_a_killed_driver_started_again_ends_with_the_same_weights(
    shards: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    folder = tmp_path / "run"
    command = (
        "train-classifier",
        "--shards",
        shards,
        "--run",
        folder,
        *SLOW_FLAGS,
        *SMALL_FLAGS,
        "--cpus",
        2,
    )
    driver = start(*command, log=tmp_path / "log")
    wait_for(lambda: len(RunFolder(folder).read_history()) == 2)
    kill(driver)
    assert not (folder / "summary.json").exists()
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert "going on after epoch" in again.stdout
    assert_same(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(shards: Path, tmp_path: Path, workers: int) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    driver = start(
        "train-classifier",
        "--shards",
        shards,
        "--run",
        folder,
        *SLOW_FLAGS,
        *SMALL_FLAGS,
        "--cpus",
        2,
        "--workers",
        workers,
        log=log,
    )
    wait_for(lambda: len(RunFolder(folder).read_history()) >= 1)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) == 130
    told = log.read_text()
    assert "interrupted; the same command goes on where it stopped" in told and "Traceback" not in told
    assert (folder / "model.safetensors").is_file()


def test_an_outlived_worker_does_not_write_into_a_run_that_was_taken_over(
    shards: Path, tmp_path: Path
) -> None:
    config = train_config(shards, tmp_path)
    old = RunFolder(config.run).acquire()
    RunFolder(config.run).acquire()
    with pytest.raises(UserError, match="another command has taken this run over"):
        train_loop(config, World(0, 1, torch.device("cpu")), old)
    assert not (config.run / "model.safetensors").exists()

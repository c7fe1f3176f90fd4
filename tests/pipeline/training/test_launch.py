"""Runs of one worker on this host: weights equal to those of one process; lost workers; errors."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.classifier.train import train_classifier, train_many
from pipeline.distributed.execution import Execution, execution
from pipeline.distributed.processes import start_fork_server, stop_fork_server
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.gan import loop as gan
from pipeline.io.errors import UserError
from pipeline.training.launch import fit
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.processes import start_command, wait_until
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import gan_config, train_config


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> Iterator[None]:
    start_fork_server(["pipeline.classifier.train", "tests.helpers.sounds", "pytest"])
    yield
    stop_fork_server()


@pytest.fixture(scope="module")
def expected_run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train in this process; return the run folder."""
    config = train_config(shards, tmp_path_factory.mktemp("expected"), epochs=6)
    torch.set_num_threads(1)
    train_loop(config, SINGLE_WORKER)
    return config.run


def losses(run: Path) -> list[tuple[float, float]]:
    return [(metrics["train_loss"], metrics["val_loss"]) for metrics in RunFolder(run).read_history()]


def assert_equal_runs(run: Path, expected: Path) -> None:
    assert losses(run) == losses(expected)
    assert tensors_equal(load_weights(run), load_weights(expected))


def kill_once(config: TrainClassifierConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """Training loop whose process is killed after two epochs, once."""

    def kill_after_two_epochs(metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    return train_loop(config, world.with_report(kill_after_two_epochs), owner)


def crash(config: TrainClassifierConfig, world: World) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def fail(config: TrainClassifierConfig, world: World) -> dict[str, Any]:
    raise ValueError("a bug")


def threads(config: TrainClassifierConfig, world: World) -> dict[str, Any]:
    return {"threads": torch.get_num_threads(), "process": os.getpid()}


def imports_compiler(loop: Any, config: Any, world: World, owner: str | None = None) -> dict[str, Any]:
    """Train, and return whether PyTorch's compiler has been imported, which takes seconds."""
    loop(config, world, owner)
    return {"imported": "torch._dynamo" in sys.modules}


def fit_config(loop: Any, config: Any) -> dict[str, Any]:
    return fit(loop, config, config.subset(ResourceConfig), config.run)


def test_losses_equal_those_of_one_process(
    shards: Path, tmp_path: Path, expected_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = train_config(shards, tmp_path / "run", epochs=6)
    with caplog.at_level(logging.INFO, logger="melray"):
        train_classifier(config)
    assert "training on this host, 1 CPU per run (--ray: on Ray)" in caplog.messages
    assert_equal_runs(config.run, expected_run)


@pytest.mark.parametrize(
    ("loop", "make_config"),
    [(train_loop, train_config), (gan.train_loop, gan_config)],
    ids=["classifier", "gan"],
)
def test_training_does_not_import_the_compiler(
    loop: Any, make_config: Any, shards: Path, tmp_path: Path
) -> None:
    config = make_config(shards, tmp_path / "run", epochs=1, cpus_per_worker=1)
    assert fit_config(partial(imports_compiler, loop), config) == {"imported": False}


def test_lost_worker_resumes_with_the_same_losses(
    shards: Path, tmp_path: Path, expected_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = train_config(shards, tmp_path / "run", epochs=6)
    fit_config(kill_once, config)
    warning = "worker lost (a worker process has ended: killed by SIGKILL, perhaps for lack of memory)"
    assert [line for line in caplog.messages if line.startswith(warning)]
    assert_equal_runs(config.run, expected_run)


def test_worker_that_is_always_lost_ends_the_run(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path / "run", max_failures=2)
    with pytest.raises(UserError, match=r"lost more than --max-failures 2 times.*killed by SIGKILL"):
        fit_config(crash, config)


def test_errors_of_the_loop_are_not_retried(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="a bug") as info:
        fit_config(fail, train_config(shards, tmp_path / "run"))
    assert "in fail" in info.value.__notes__[0]
    with pytest.raises(UserError, match="--fold 9: fold not found"):
        fit_config(partial(train_loop), train_config(shards, tmp_path / "run", fold=9))
    assert not [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_run_has_all_cpus_by_default(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path / "run", cpus_per_worker=None)
    with execution(Execution(cpus=3)):
        result = fit_config(threads, config)
    assert result["threads"] == 3 and result["process"] != os.getpid()


def test_more_resources_than_this_host_has_are_refused(shards: Path, tmp_path: Path) -> None:
    config = train_config(shards, tmp_path / "run", cpus_per_worker=3, wait_for_nodes=10.0)
    with (
        execution(Execution(cpus=2)),
        pytest.raises(UserError, match=r"needs 1 worker with 3 CPUs, but only 0 fit .*\(2 CPUs\)"),
    ):
        fit_config(threads, config)
    two_workers = train_config(shards, tmp_path / "run", workers=2)
    with execution(Execution(use_ray=False)), pytest.raises(UserError, match="--workers 2 needs Ray"):
        fit_config(threads, two_workers)


def test_several_runs_share_the_cpus(shards: Path, tmp_path: Path, expected_run: Path) -> None:
    runs = {name: train_config(shards, tmp_path / name, epochs=6) for name in ("a", "b", "c")}
    with execution(Execution(cpus=2)):
        train_many(runs)
    for config in runs.values():
        assert_equal_runs(config.run, expected_run)


def test_worker_ends_with_a_killed_command(shards: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    flags = ("--epochs", 100_000, "--patience", 100_000, "--model.channels", 4, 8, "--no-ray", "--cpus", 1)
    command = start_command("train-classifier", "--shards", shards, "--run", run, *flags, log=log)
    wait_until(lambda: RunFolder(run).read_history())
    processes = psutil.Process(command.pid).children(recursive=True)
    command.send_signal(signal.SIGKILL)
    command.wait()
    wait_until(lambda: not any(process.is_running() for process in processes), 20)

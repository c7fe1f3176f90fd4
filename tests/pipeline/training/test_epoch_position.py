"""Checkpoints within an epoch: a run that resumes from one ends with the weights of an unbroken run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.classifier import loop as classifier_loop
from pipeline.gan import loop as gan_loop
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.epoch_position import EpochCheckpoints, position_tensors, read_position
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import SINGLE_WORKER, World
from tests.helpers.interruption import StoppedError, interrupt
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import load_weights, tensors_equal
from tests.helpers.sounds import gan_config, train_config

pytestmark = pytest.mark.usefixtures("single_thread")
TIMES = ("seconds", "samples_per_second", "steps_per_second")


def make_run(model: str, shards: Path, run: Path, **overrides: Any) -> tuple[Any, Any]:
    """Return the loop and the settings of a run with several steps per epoch."""
    run.mkdir()
    if model == "gan":
        return gan_loop, gan_config(shards, run, epochs=3, epoch_steps=9, penalty_interval=4, **overrides)
    return classifier_loop, train_config(shards, run, epochs=3, batch_size=8, **overrides)


def assert_equal(run: Path, expected: Path) -> None:
    assert tensors_equal(load_weights(run), load_weights(expected))
    actual_groups, actual = Checkpoints(run).read()  # type: ignore[misc]
    groups, values = Checkpoints(expected).read()  # type: ignore[misc]
    for name, group in groups.items():
        assert tensors_equal(actual_groups[name], group), name
    for state in (actual, values):
        for metrics in state["history"]:
            for key in TIMES:
                metrics.pop(key, None)
    assert actual == values


@pytest.mark.parametrize(
    "steps", [1, pytest.param(4, marks=pytest.mark.slow), pytest.param(5, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("model", ["classifier", "gan"])
def test_resumed_epoch_ends_with_same_weights(
    model: str, steps: int, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, expected = make_run(model, shards, tmp_path / "expected")
    loop.train_loop(expected, SINGLE_WORKER)
    loop, config = make_run(model, shards, tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        interrupt(patch, loop, 2, steps)
        loop.train_loop(config, SINGLE_WORKER)
    assert sorted(path.name for path in (config.run / "checkpoints").iterdir()) == [
        "epoch_0001",
        f"epoch_0001_step_{steps}",
    ]
    assert len(RunFolder(config.run).read_history()) == 1
    loop.train_loop(config, SINGLE_WORKER)
    assert_equal(config.run, expected.run)
    assert sorted(path.name for path in (config.run / "checkpoints").iterdir()) == [
        "epoch_0002",
        "epoch_0003",
    ]


def train_as_rank(
    world: World, model: str, shards: Path, run: Path, stop_at: tuple[int, int] | None = None
) -> None:
    run.mkdir(exist_ok=True)
    loop = gan_loop if model == "gan" else classifier_loop
    config = (gan_config if model == "gan" else train_config)(shards, run, epochs=2, batch_size=8)
    if stop_at is not None:
        interrupt(pytest.MonkeyPatch(), loop, *stop_at)
    with suppress(StoppedError):
        loop.train_loop(config, world)


@pytest.mark.parametrize("model", ["classifier", "gan"])
@pytest.mark.slow
def test_two_workers_resume_with_same_weights(model: str, shards: Path, tmp_path: Path) -> None:
    """Each rank has its own dropout and sums."""
    run_ranks(train_as_rank, 2, tmp_path / "1", model, shards, tmp_path / "expected")
    run_ranks(train_as_rank, 2, tmp_path / "2", model, shards, tmp_path / "run", (2, 2))
    run_ranks(train_as_rank, 2, tmp_path / "3", model, shards, tmp_path / "run")
    assert_equal(tmp_path / "run", tmp_path / "expected")


@pytest.mark.slow
def test_epoch_continues_with_fewer_workers(shards: Path, tmp_path: Path) -> None:
    run_ranks(train_as_rank, 2, tmp_path / "1", "classifier", shards, tmp_path / "run", (2, 2))
    config = train_config(shards, tmp_path / "run", epochs=2, batch_size=8)
    classifier_loop.train_loop(config, SINGLE_WORKER)
    run_ranks(train_as_rank, 2, tmp_path / "2", "classifier", shards, tmp_path / "expected")
    loss, expected = (
        RunFolder(tmp_path / name).read_history()[-1]["train_loss"] for name in ("run", "expected")
    )
    assert loss == pytest.approx(expected, rel=0.1)


def test_epoch_continues_on_another_kind_of_device() -> None:
    """The random generators of GPUs have other states: that of the checkpoint is of no use."""
    tensors, values = position_tensors(SINGLE_WORKER, torch.ones(2), 5, 1.0)
    same = read_position(SINGLE_WORKER, {"position": tensors}, {"position": values})
    assert same is not None and same.random_state is not None
    tensors["random_states"] = torch.zeros(1, 16, dtype=torch.uint8)
    other = read_position(SINGLE_WORKER, {"position": tensors}, {"position": values})
    assert other is not None and other.random_state is None and other.steps == 5


def test_rollback_skips_checkpoints_within_epochs(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    position = ({"sums": torch.zeros(1)}, {"steps": 5, "seconds": 1.0})
    for epoch in (1, 2):
        checkpoints.write(epoch, {}, {"epoch": epoch})
    checkpoints.write(2, {}, {"epoch": 2}, position)
    assert "position" in checkpoints.read()[1]  # type: ignore[index]
    assert checkpoints.read(within_epochs=False)[1] == {"epoch": 2}  # type: ignore[index]


def test_newest_checkpoint_within_epoch_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for epoch in (9, 10):
        checkpoints.write(epoch, {}, {})
    for steps in (5, 40, 100):
        checkpoints.write(10, {}, {}, ({}, {"steps": steps, "seconds": 1.0}))
    names = {path.name for path in checkpoints.folder.iterdir()}
    assert names == {"epoch_0009", "epoch_0010", "epoch_0010_step_100"}
    assert checkpoints.read()[1]["position"]["steps"] == 100  # type: ignore[index]


class Clock:
    """Time that passes by a number of seconds per step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def run(self, checkpoints: EpochCheckpoints, steps: range, step_s: float) -> None:
        for number in steps:
            self.now += step_s
            checkpoints.after_step(number, torch.zeros(1), 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def make_checkpoints(
    minutes: float, saved: list[int], is_preempted: Callable[[], bool] = lambda: False
) -> EpochCheckpoints:
    return EpochCheckpoints(
        SINGLE_WORKER, minutes, is_preempted, lambda position: saved.append(position[1]["steps"])
    )


def test_checkpoint_is_due_after_minutes(clock: Clock) -> None:
    saved: list[int] = []
    checkpoints = make_checkpoints(1.0, saved)
    clock.run(checkpoints, range(1, 21), 10.0)
    assert saved == [6, 12, 18]
    checkpoints.start_epoch(0)  # the checkpoint of the epoch has just been written
    clock.run(checkpoints, range(1, 7), 10.0)
    assert saved == [6, 12, 18, 6]


def test_zero_minutes_write_none(clock: Clock) -> None:
    saved: list[int] = []
    clock.run(make_checkpoints(0.0, saved), range(1, 100), 1000.0)
    assert saved == []


@pytest.mark.parametrize("minutes", [0.0, 30.0])
def test_preemption_notice_writes_at_once(minutes: float, clock: Clock) -> None:
    """Then every 30 seconds until the node is gone, and as before if the notice is called off."""
    saved: list[int] = []
    notices: list[bool] = [False] * 5 + [True] * 8 + [False] * 20
    checkpoints = make_checkpoints(minutes, saved, lambda: notices.pop(0))
    clock.run(checkpoints, range(1, 34), 10.0)
    assert saved == [6, 9, 12]

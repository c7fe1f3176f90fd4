"""Training runs of classifiers: in this process, interrupted in a step, and by several workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.classifier import loop
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.step import train_step
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World
from tests.helpers.ranks import run_ranks
from tests.helpers.runs import load_weights


def train_run(config: TrainClassifierConfig) -> dict[str, Any]:
    """Train a run in this process, or resume it; return its summary."""
    summary = begin_run(config)
    return train_in_process(config) if summary is None else summary


@contextmanager
def interrupted_at(step: int) -> Iterator[None]:
    """Interrupt training in a step, counted from 1 over all runs, and expect that it ends so."""
    calls: list[int] = []

    def interrupted_step(*args: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == step:
            raise KeyboardInterrupt
        return train_step(*args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "train_step", interrupted_step)
        yield


def train_as_rank(world: World, config: TrainClassifierConfig) -> None:
    """Train as one of several workers, in a process of its own."""
    loop.train_loop(config, world)


def train_on_workers(config: TrainClassifierConfig, rendezvous: Path, workers: int = 2) -> None:
    """Train a run by several workers, which meet at the file `rendezvous`."""
    config.run.mkdir()
    run_ranks(train_as_rank, workers, rendezvous, config)


def assert_nearly_equal(one: Path, other: Path, metrics: Sequence[str]) -> None:
    """Check that two runs have the same weights and metrics of the last epoch up to rounding errors."""
    other_weights = load_weights(other)
    for name, value in load_weights(one).items():
        # Sums over a batch have another order; AdamW divides by the root of tiny squares and amplifies that.
        torch.testing.assert_close(other_weights[name], value, rtol=1e-3, atol=1e-4)
    metrics_one, metrics_other = (RunFolder(run).read_history()[-1] for run in (one, other))
    for key in metrics:
        assert metrics_one[key] == pytest.approx(metrics_other[key], rel=1e-3), key

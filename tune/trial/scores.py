"""The epochs of a trial as a stream of scores: of one training, or of several parts in step. It knows nothing of Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any

from pipeline.classifier import loop as train_classifier
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.config import TrainingConfig
from pipeline.training.run import finish_run
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import EpochGenerator, World
from tune.trial.spec import TrialSpec


def trial_scores(
    job: TrialSpec, settings: list[TrainingConfig], world: World
) -> Generator[dict[str, Any], None, None]:
    """Trains a trial whose folders are open, from where it stands, and yields `epoch` and `score` after each epoch that has one.

    The score of several parts is their mean at the same epoch; a part that stopped early keeps its last. Epochs that an earlier
    attempt did are told once more, as the scheduler may be a new one, unless the trial's values may change.

    Raises:
        UserError: as the training does, or when the score is no number.
    """
    parts = [_epochs(one, world, job.mutates_values) for one in settings]
    last: list[dict[str, Any] | None] = [None] * len(parts)
    try:
        while True:
            new = [next(part, None) for part in parts]
            if not any(new):
                return
            last = [line or before for line, before in zip(new, last, strict=True)]
            lines = [line for line in last if line is not None]
            if len(lines) < len(parts) or any(job.metric not in line for line in lines if line in new):
                continue
            score = sum(line[job.metric] for line in lines) / len(lines)
            if not math.isfinite(score):
                raise UserError(f"{job.metric} is {score} in epoch {lines[0]['epoch']}")
            yield {"epoch": max(line["epoch"] for line in lines), "score": float(score)}
    finally:
        for part in parts:
            part.close()


def _epochs(config: TrainingConfig, world: World, only_new: bool) -> Generator[dict[str, Any], None, None]:
    """The entries of a training's epochs; when it comes to its end it leaves its summary."""
    run = RunFolder(config.run)
    if not only_new:
        state = Checkpoints(config.run).read()
        yield from state[1]["history"] if state else run.read_history()
    if run.read_json("summary.json") is not None:
        return
    start = time.monotonic()
    result = yield from _train(config, world, run.acquire() if world.rank == 0 else None)
    if world.rank == 0:
        finish_run(config, result, time.monotonic() - start)


def _train(config: TrainingConfig, world: World, owner: str | None) -> EpochGenerator:
    if isinstance(config, TrainClassifierConfig):
        return train_classifier.train_epochs(config, world, owner)
    from pipeline.gan import loop as train_gan  # draws pictures, which is slow to import

    assert isinstance(config, TrainGanConfig)
    return train_gan.train_epochs(config, world, owner)

"""Stream of a trial's scores, from one training run or from inner folds in lockstep; independent of Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any

from pipeline.classifier import loop as classifier_loop
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.config import TrainingConfig
from pipeline.training.run import finish_run, seconds_before
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import EpochGenerator, World
from tune.trial.spec import TrialSpec

# Key of the scores of epochs that were trained before.
REPEATED_KEY = "repeated"


def trial_scores(
    spec: TrialSpec, settings: list[TrainingConfig], world: World, only_new: bool = False
) -> Generator[dict[str, Any], None, None]:
    """Train a trial from its last checkpoints; yield `epoch` and `score` after each epoch that has a score.

    Classifiers also have a `loss`. The run folders must be open. Score and loss of inner folds are their
    means at the same epoch; a fold that stopped early keeps its last ones. Epochs of earlier attempts are
    yielded again, as the scheduler may be a new one, and the driver may have been killed before it recorded
    them; with `only_new` they are not.

    Raises:
        UserError: as the training does, or a score that is not finite.
    """
    folds = [_epochs(config, world, only_new) for config in settings]
    latest: list[dict[str, Any] | None] = [None] * len(folds)
    try:
        while True:
            new = [next(fold, None) for fold in folds]
            if not any(new):
                return
            latest = [metrics or previous for metrics, previous in zip(new, latest, strict=True)]
            available = [metrics for metrics in latest if metrics is not None]
            if len(available) < len(folds) or any(
                spec.metric not in metrics for metrics in available if metrics in new
            ):
                continue
            score = _mean(available, spec.metric)
            if not math.isfinite(score):
                raise UserError(f"{spec.metric} is {score} in epoch {available[0]['epoch']}")
            repeated = {REPEATED_KEY: True} if all(REPEATED_KEY in metrics for metrics in available) else {}
            epoch = max(metrics["epoch"] for metrics in available)
            has_loss = all("val_loss" in metrics for metrics in available)
            loss = {"loss": _mean(available, "val_loss")} if has_loss else {}
            yield {"epoch": epoch, "score": score, **loss, **repeated}
    finally:
        for fold in folds:
            fold.close()


def _mean(folds: list[dict[str, Any]], name: str) -> float:
    return float(sum(metrics[name] for metrics in folds) / len(folds))


def _epochs(config: TrainingConfig, world: World, only_new: bool) -> Generator[dict[str, Any], None, None]:
    """Train a run and yield the metrics of each epoch; write its summary at the end."""
    run = RunFolder(config.run)
    if not only_new:
        checkpoint = Checkpoints(config.run).read(world)
        for metrics in checkpoint[1]["history"] if checkpoint else run.read_history():
            yield {**metrics, REPEATED_KEY: True}
    if run.read_json("summary.json") is not None:
        return
    start = time.monotonic() - seconds_before(run)
    result = yield from _train(config, world, run.acquire() if world.rank == 0 else None)
    if world.rank == 0:
        finish_run(config, result, time.monotonic() - start)


def _train(config: TrainingConfig, world: World, owner: str | None) -> EpochGenerator:
    if isinstance(config, TrainClassifierConfig):
        return classifier_loop.train_epochs(config, world, owner)
    from pipeline.gan import loop as gan_loop  # slow to import

    assert isinstance(config, TrainGanConfig)
    return gan_loop.train_epochs(config, world, owner)

"""Training loop of the GAN, from top to bottom: a step of each network, an epoch, the loop of one worker.

for each epoch
    for each batch              every rank samples the same global batch and takes its slice of it
        discriminator_step      real and fake clips with the same augmentation; every few steps R1 and R2
        generator_step          fake clips against the real scores of the discriminator step
        EMA update              averaged generator weights, which are evaluated and saved
        ADA update              every few steps: augmentation probability follows r_t
    detect_collapse             on collapse: rollback to the last good checkpoint, at half the learning rates
    snapshots                   every few epochs: audio, images, Fréchet distance by the selection classifier
    checkpoint                  rank 0 writes the full state; a restart resumes from the newest checkpoint

Shape suffixes: B batch (this rank's slice), M mel bands, T frames, C classes.
"""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch

from models.gan_augment import update_ada_probability
from pipeline.distributed.worker import watchdog
from pipeline.gan.collapse import detect_collapse
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.rollback import pop_collapse, rollback, sample_diversity
from pipeline.gan.schedule import learning_rate_factor
from pipeline.gan.state import (
    GanTrainState,
    forget_best_score,
    prepare,
    publish,
    restore,
    save_current_model,
    write_checkpoint,
)
from pipeline.gan.step import METRIC_NAMES, plan_step, train_step
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.epoch_position import EpochCheckpoints, PositionTensors, seed_epoch
from pipeline.training.epoch_results import complete_model
from pipeline.training.log import RunLog, open_run_log
from pipeline.training.placement import STREAM_NOTE
from pipeline.training.preemption import watch_preemption
from pipeline.training.run_folder import RunFolder
from pipeline.training.step_inputs import prefetch
from pipeline.training.world import EpochGenerator, World, exhaust

# Steps between updates of ADA's probability, fewer at the end of an epoch: the discriminator's outputs in one
# step are too few for r_t.
ADA_INTERVAL = 8


def train_epoch(
    state: GanTrainState, log: RunLog, checkpoints: EpochCheckpoints | None = None
) -> dict[str, float]:
    """Train for one epoch, or its rest; return its metrics.

    Args:
        state: training state of this worker, at the start of an epoch or within it.
        log: log of the run.
        checkpoints: writes checkpoints within the epoch.

    Returns:
        Means of `METRIC_NAMES` over steps and ranks, ADA state, speed.
    """
    config, world = state.config, state.world
    position, state.position = state.position, None
    first = position.steps if position else 0
    if checkpoints is not None:
        checkpoints.start_epoch(first)
    state.generator.train()
    rng = np.random.default_rng([config.seed, state.rollbacks, state.epoch])
    batches = state.data.sample_batches(
        state.labels, state.split.train, config.sampling, rng, config.batch_size, state.passes_per_epoch
    )
    state.epoch_step = state.step - first
    # On GPUs the latents are sampled there.
    seed_epoch([config.seed, state.rollbacks, state.epoch], position, world.device)
    start_time = time.perf_counter() - (position.seconds if position else 0.0)
    # Those of the epoch, and those since the last update of ADA.
    sums = torch.zeros(2 * (len(METRIC_NAMES) + 1), device=world.device)
    if position is not None:
        sums.copy_(position.sums)
    epoch_sums, ada_sums = sums.chunk(2)
    planned = prefetch(
        lambda number: plan_step(state, batches[first + number], first + number),
        len(batches) - first,
        world.device,
    )
    with watchdog(world.timeout_s) as heartbeat, closing(planned):
        for steps, plan in enumerate(planned, first + 1):
            step_metrics = train_step(state, plan)
            epoch_sums += step_metrics
            ada_sums += step_metrics
            if steps % ADA_INTERVAL == 0 or steps == len(batches):
                _update_ada(state, ada_sums, (steps - 1) % ADA_INTERVAL + 1)
            log.step(state.epoch + 1, steps, len(batches), start_time)
            heartbeat()
            if checkpoints is not None:
                checkpoints.after_step(steps, sums, time.perf_counter() - start_time)
        means = (world.sum(epoch_sums) / len(batches)).tolist()
    return _epoch_metrics(state, means, len(batches), time.perf_counter() - start_time)


def _epoch_metrics(
    state: GanTrainState, means: list[float], num_steps: int, seconds: float
) -> dict[str, float]:
    """Return the metrics of an epoch from the means over its steps: those of `METRIC_NAMES`, and r_t."""
    config = state.config
    metrics = dict(zip(METRIC_NAMES, means[:-1], strict=True))
    # The mean over the steps that had a penalty.
    metrics["penalty"] *= min(config.penalty_interval, num_steps)
    return {
        **metrics,
        "ada_rt": means[-1],
        "augment_p": float(state.ada_p),
        "seconds": seconds,
        "steps_per_second": num_steps / seconds,
        "learning_rate": config.generator_lr * learning_rate_factor(state, state.step - 1),
    }


def _update_ada(state: GanTrainState, ada_sums: torch.Tensor, num_steps: int) -> None:
    """Update ADA's probability from the sums over some steps, and reset these; a collective."""
    config = state.config
    ada_rt = state.world.sum(ada_sums)[-1].double() / num_steps
    clips = num_steps * config.batch_size
    state.ada_p.copy_(update_ada_probability(state.ada_p, ada_rt, clips, config.ada))
    ada_sums.zero_()


def train_loop(config: TrainGanConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """Run `train_epochs` to its end and return its result."""
    return exhaust(train_epochs(config, world, owner), world)


def train_epochs(config: TrainGanConfig, world: World, owner: str | None = None) -> EpochGenerator:
    """Train on one rank, from the newest checkpoint of the run if there is one.

    Args:
        config: settings of the run.
        world: process group as seen from this rank.
        owner: id of the process that may write to the run; training ends when another process takes over.

    Yields:
        The metrics of each epoch, once its checkpoint is written.

    Raises:
        UserError: on every rank, with the same message.
    """
    state = prepare(config, world)
    run = RunFolder(config.run)
    checkpoints = Checkpoints(config.run)
    checkpoint = checkpoints.read(world)
    if checkpoint is not None:
        restore(state, *checkpoint)
        complete_model(
            state, run, owner, partial(forget_best_score, state), partial(save_current_model, state)
        )
    is_main = world.rank == 0
    tensorboard = config.logs_to_tensorboard
    log = world.run_on_all_ranks(
        partial(open_run_log, run, is_main, state.history, config.epochs, tensorboard)
    )
    with closing(log), watch_preemption() as is_preempted:
        if state.data.stream is not None:
            log.warn(STREAM_NOTE)
        if state.initial_note and checkpoint is None:
            log.note(state.initial_note)
        save = partial(save_within_epoch, state, checkpoints, owner)
        epoch_checkpoints = EpochCheckpoints(world, config.checkpoint_minutes, is_preempted, save)
        while state.epoch < config.epochs:
            metrics: dict[str, Any] = train_epoch(state, log, epoch_checkpoints)
            metrics["diversity"] = sample_diversity(state)
            reason = detect_collapse(metrics, state.history)
            if reason is not None:
                rollback(state, reason, checkpoints.read(world, within_epochs=False), log)
                continue
            state.epoch += 1
            end_epoch(state, metrics, checkpoints, log, owner)
            yield state.history[-1]
    return {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "rollbacks": state.rollbacks,
        **(state.history[state.best_epoch - 1] if is_main else {}),
    }


def end_epoch(
    state: GanTrainState,
    metrics: dict[str, Any],
    checkpoints: Checkpoints,
    log: RunLog,
    owner: str | None,
) -> None:
    """Write the samples of an epoch that is good, add it to the history, and publish it; a collective.

    Raises:
        UserError: on every rank, if rank 0 cannot write, or another process has taken over the run.
    """
    config, world = state.config, state.world
    is_main = world.rank == 0
    sampled = state.epoch % config.sample_every == 0 or state.epoch == config.epochs
    write_snapshot = partial(state.snapshots.write, state.ema.model, state.epoch, world.device)
    # `dict` is a no-op for the other ranks: `run_on_all_ranks` is a collective.
    sample_metrics: dict[str, float] = world.run_on_all_ranks(write_snapshot if is_main and sampled else dict)
    improved = update_best(state, sample_metrics, sampled) if is_main else False
    state.history.append(
        {
            "epoch": state.epoch,
            **metrics,
            **sample_metrics,
            **pop_collapse(state),
            "best": improved,
        }
    )
    world.run_on_all_ranks(partial(publish, state, checkpoints, log, improved, owner) if is_main else dict)


def save_within_epoch(
    state: GanTrainState, checkpoints: Checkpoints, owner: str | None, position: PositionTensors
) -> None:
    """Write a checkpoint within an epoch.

    Raises:
        UserError: another process has taken over the run, or the checkpoint cannot be written.
    """
    RunFolder(state.config.run).check_owner(owner)
    write_checkpoint(state, checkpoints, position)


def update_best(state: GanTrainState, sample_metrics: dict[str, float], sampled: bool) -> bool:
    """Record the epoch if it is the best so far; return whether it is.

    Without a score the newest sampled epoch is always the best.
    """
    score = sample_metrics.get(state.config.monitor)
    if score is None:
        if sampled or state.best_score is None:
            state.best_epoch = state.epoch
            return True
        return False
    sign = -1 if state.config.monitor == "frechet" else 1
    if state.best_score is not None and sign * score <= sign * state.best_score:
        return False
    state.best_score, state.best_epoch = score, state.epoch
    return True

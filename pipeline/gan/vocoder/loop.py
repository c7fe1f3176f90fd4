"""Training loop of a vocoder, from top to bottom: a step, an epoch, the loop of one worker.

for each epoch
    for each step    every rank samples the same segments and takes its slice of them; gradients are averaged
    validation       loss of whole validation clips
    checkpoint       rank 0 writes the state; a restart resumes from the newest checkpoint

Shape suffixes: B batch (this rank's slice), M mel bands, T frames, N samples, C channels of noise.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from models.device_batches import to_device
from models.schedule import cosine_factor
from pipeline.audio.vocoder import SILENT_DB
from pipeline.distributed.worker import watchdog
from pipeline.gan.vocoder.config import TrainVocoderConfig
from pipeline.gan.vocoder.state import VocoderTrainState, prepare, publish, restore, save_current_model
from pipeline.io.errors import UserError
from pipeline.io.text import plural
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.epoch_results import complete_model
from pipeline.training.log import RunLog, open_run_log
from pipeline.training.optim import set_learning_rate
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import EpochGenerator, World, exhaust, rank_slice


def train_step(state: VocoderTrainState, number: int) -> float:
    """Train on random segments; return this rank's contribution to the mean loss.

    Args:
        state: training state of this worker.
        number: index of the step in its epoch; seeds the sampling together with the epoch.
    """
    config, world = state.config, state.world
    rng = np.random.default_rng([config.seed, state.epoch, number])
    mels, samples = state.sampler.sample(rng, config.batch_size)
    noise = _noise(rng, state, mels)
    own = rank_slice(config.batch_size, world)
    mel_BMT, real_BN, noise_BCT = (
        to_device(np.ascontiguousarray(values[own]), world.device) for values in (mels, samples, noise)
    )
    with state.autocast():
        predicted = state.network.predict(mel_BMT, noise_BCT)
    loss = state.loss(state.network.synthesize(predicted, mel_BMT), real_BN)
    loss = loss * (len(mel_BMT) * world.size / config.batch_size)
    set_learning_rate(state.optimizer, learning_rate(config, state.epoch * config.epoch_steps + number))
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    world.average_gradients(state.network)
    nn.utils.clip_grad_norm_(state.network.parameters(), config.max_grad_norm)
    state.optimizer.step()
    return loss.item() / world.size


def _noise(rng: np.random.Generator, state: VocoderTrainState, mels: np.ndarray) -> np.ndarray:
    shape = (len(mels), state.config.vocoder.noise_channels, mels.shape[2])
    return rng.standard_normal(shape, np.float32)


def learning_rate(config: TrainVocoderConfig, step: int) -> float:
    """Return the learning rate of a step: linear warmup, then cosine decay to zero."""
    steps = config.epochs * config.epoch_steps
    warmup = min(config.warmup_steps, steps // 5)
    return config.learning_rate * cosine_factor(step, steps, warmup, final=0.0)


def train_epoch(state: VocoderTrainState, log: RunLog) -> dict[str, float]:
    """Train for an epoch; return its metrics.

    Raises:
        UserError: on every rank, if the loss is not finite.
    """
    config, start_time = state.config, time.perf_counter()
    state.network.train()
    total = torch.zeros(1, dtype=torch.float64)
    with watchdog(state.world.timeout_s) as heartbeat:
        for number in range(config.epoch_steps):
            total += train_step(state, number)
            log.step(state.epoch + 1, number + 1, config.epoch_steps, start_time)
            heartbeat()
        loss = float(state.world.sum(total.to(state.world.device))) / config.epoch_steps
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} in epoch {state.epoch + 1}: try a lower --learning-rate "
            f"(now {config.learning_rate:g}) in another --run"
        )
    seconds = time.perf_counter() - start_time
    return {"train_loss": loss, "seconds": seconds, "steps_per_second": config.epoch_steps / seconds}


@torch.inference_mode()
def validate(state: VocoderTrainState) -> dict[str, float]:
    """Return the mean loss of whole validation clips, relative to their maxima; nothing without any."""
    if (clips := state.validation) is None:
        return {}
    state.network.eval()
    losses = []
    for number, (mel, samples) in enumerate(zip(clips.mels, clips.samples, strict=True)):
        gain_db = np.float32(-mel.max())
        mels = np.maximum(mel + gain_db, np.float32(SILENT_DB))[None]
        length = (mels.shape[2] - 1) * state.network.hop_length
        real = (samples[:length] * 10 ** (gain_db / 20)).astype(np.float32)[None]
        noise = _noise(np.random.default_rng(number), state, mels)
        mel_BMT, real_BN, noise_BCT = (
            to_device(values, state.world.device) for values in (mels, real, noise)
        )
        losses.append(float(state.loss(state.network(mel_BMT, noise_BCT), real_BN)))
    return {"val_loss": float(np.mean(losses))}


def train_loop(config: TrainVocoderConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """Run `train_epochs` to its end; return its result."""
    return exhaust(train_epochs(config, world, owner), world)


def train_epochs(config: TrainVocoderConfig, world: World, owner: str | None = None) -> EpochGenerator:
    """Train as one of the workers, from the newest checkpoint of the run if there is one.

    Yields the metrics of each epoch, once its checkpoint is written. Stops before its next write if `owner`
    is no longer the owner of the run.

    Raises:
        UserError: on every rank, with the same text.
    """
    state = prepare(config, world)
    run, checkpoints = RunFolder(config.run), Checkpoints(config.run)
    checkpoint = checkpoints.read(world)
    if checkpoint is not None:
        restore(state, *checkpoint)
        complete_model(state, run, owner, lambda: None, partial(save_current_model, state))
    is_main = world.rank == 0
    log = world.run_on_all_ranks(
        partial(open_run_log, run, is_main, state.history, config.epochs, config.logs_to_tensorboard)
    )
    with closing(log):
        if state.missing:
            log.note(
                f"{plural(state.missing, 'clip')} without audio where `extract` found it: not trained on"
            )
        while state.epoch < config.epochs:
            metrics: dict[str, Any] = train_epoch(state, log)
            metrics |= world.run_on_main_rank(partial(validate, state))
            state.epoch += 1
            rate = learning_rate(config, state.epoch * config.epoch_steps - 1)
            state.history.append({"epoch": state.epoch, **metrics, "learning_rate": rate, "best": True})
            world.run_on_all_ranks(partial(publish, state, checkpoints, log, owner) if is_main else _noop)
            yield state.history[-1]
    return {"epochs": state.epoch, "best_epoch": state.epoch, **state.history[-1]}


def _noop() -> None:
    pass

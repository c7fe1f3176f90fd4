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
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.batch_augment import BatchAugmentation
from models.gan import Latents, sample_latents
from models.gan_augment import augment, sample_augmentation, update_ada_probability
from models.gan_losses import discriminator_loss, diversity_loss, generator_loss, gradient_penalty
from models.schedule import cosine_factor
from pipeline.data.loader import epoch_batches, epoch_order
from pipeline.distributed.worker import watchdog
from pipeline.gan.collapse import detect_collapse
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.rollback import pop_collapse, rollback, sample_diversity
from pipeline.gan.state import GanTrainState, prepare, publish, restore
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.log import RunLog, open_run_log
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import EpochGenerator, World, exhaust, rank_slice

# Metrics that are averaged over the steps of an epoch, in the order in which `train_step` returns them.
METRIC_NAMES = (
    "discriminator_loss",
    "generator_loss",
    "real_score",
    "fake_score",
    "penalty",
    "discriminator_grad_norm",
    "generator_grad_norm",
)


@dataclass(frozen=True)
class Batch:
    """This rank's slice of a step: real clips in dB, labels of real and fake clips, latents, augmentation."""

    real_BMT: Tensor
    label_B: Tensor
    latents: tuple[Latents, Latents]
    """Latents of the discriminator step and of the generator step."""
    augmentation: BatchAugmentation
    rank_weight: float
    """Factor that makes the mean of the ranks' mean losses the mean over the global batch."""


def make_batch(state: GanTrainState, rows: np.ndarray, number: int) -> Batch:
    """Sample latents and augmentation for a global batch, and return this rank's slice.

    Args:
        state: training state of this worker.
        rows: row indices of the global batch.
        number: index of the batch in its epoch; seeds the sampling together with the epoch.
    """
    seed = [state.config.seed, state.rollbacks, state.epoch, number]
    rng = np.random.default_rng(seed)
    augmentation = sample_augmentation(rng, len(rows), state.config.augment, state.ada_p)
    torch_rng = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    latents = [
        sample_latents(state.config.gan, state.dataset.features.shape, len(rows), torch_rng) for _ in range(2)
    ]
    local_slice = rank_slice(len(rows), state.world)
    return Batch(
        real_BMT=state.loader(rows[local_slice]).float(),
        label_B=torch.from_numpy(state.labels[rows[local_slice]]).to(state.world.device),
        latents=(
            latents[0][local_slice].to(state.world.device),
            latents[1][local_slice].to(state.world.device),
        ),
        augmentation=augmentation[local_slice],
        rank_weight=(local_slice.stop - local_slice.start) * state.world.size / len(rows),
    )


@dataclass(frozen=True)
class DiscriminatorOutput:
    """Result of a discriminator step for this rank's slice, without gradients."""

    real_score_B: Tensor
    fake_score_B: Tensor
    loss: Tensor
    penalty: Tensor
    fake_BMT: Tensor
    """The fake clips, in dB, before augmentation."""


def discriminator_step(state: GanTrainState, batch: Batch) -> DiscriminatorOutput:
    """Compute the gradients of the discriminator."""
    config, discriminator = state.config, state.discriminator
    with torch.no_grad(), state.autocast():
        fake_BMT = state.generator_forward(batch.latents[0], batch.label_B)
    fill_M = discriminator.mel_mean_M
    mels = torch.cat([augment(mel_BMT, batch.augmentation, fill_M) for mel_BMT in (batch.real_BMT, fake_BMT)])
    labels = torch.cat([batch.label_B, batch.label_B])
    with state.autocast():
        scores, logits = discriminator(mels, labels)
    real_score_B, fake_score_B = scores.chunk(2)
    loss = discriminator_loss(config.loss, real_score_B, fake_score_B)
    class_loss = F.cross_entropy(logits.chunk(2)[0], batch.label_B)
    (batch.rank_weight * (loss + config.class_weight * class_loss)).backward()
    penalty = torch.zeros((), device=state.world.device)
    if state.step % config.penalty_interval == 0 and config.penalty_weight:
        with state.autocast():
            penalties = gradient_penalty(
                lambda mel: discriminator(mel, labels)[0], mels, discriminator.mel_std_M
            )
            # R1 and R2 in one pass: twice the mean over both halves is the sum of their means.
            penalty = 2 * penalties.mean()
        final = config.penalty_final_factor
        weight = (
            config.penalty_weight * (final + (1 - final) * (1 - state.progress)) * config.penalty_interval
        )
        (batch.rank_weight * weight * penalty).backward()
    return DiscriminatorOutput(
        real_score_B.detach(), fake_score_B.detach(), loss.detach(), penalty.detach(), fake_BMT
    )


def generator_step(state: GanTrainState, batch: Batch, d_out: DiscriminatorOutput) -> Tensor:
    """Compute the gradients of the generator, using the real scores of the discriminator step.

    Returns:
        The adversarial loss of this rank's slice.
    """
    config, discriminator = state.config, state.discriminator
    discriminator.requires_grad_(False)
    with state.autocast():
        fake_BMT = state.generator_forward(batch.latents[1], batch.label_B)
        fake_score_B, logits_BC = discriminator(
            augment(fake_BMT, batch.augmentation, discriminator.mel_mean_M), batch.label_B
        )
    loss = generator_loss(config.loss, fake_score_B, d_out.real_score_B)
    class_loss = F.cross_entropy(logits_BC, batch.label_B)
    similarity = diversity_loss(
        fake_BMT,
        d_out.fake_BMT,
        state.generator.mel_std_M,
        state.real_difference,
        state.has_variety_C[batch.label_B],
    )
    total = loss + config.class_weight * class_loss + config.diversity_weight * similarity
    (batch.rank_weight * total).backward()
    discriminator.requires_grad_(True)
    return loss.detach()


def optimizer_step(state: GanTrainState, name: str, model: nn.Module) -> Tensor:
    """Average a network's gradients over ranks, clip them, update the weights; return the gradient norm."""
    state.world.average_gradients(model)
    norm = nn.utils.clip_grad_norm_(model.parameters(), state.config.max_grad_norm)
    state.optimizers[name].step()
    state.optimizers[name].zero_grad(set_to_none=True)
    return norm


def train_step(state: GanTrainState, rows: np.ndarray, number: int) -> Tensor:
    """Train both networks on a global batch.

    Returns:
        This rank's contributions to `METRIC_NAMES` and, last, to ADA's r_t `[shape=(8,)]`; their sums over
        ranks are means over the global batch.
    """
    batch = make_batch(state, rows, number)
    set_learning_rates(state)
    d_out = discriminator_step(state, batch)
    d_norm = optimizer_step(state, "discriminator", state.discriminator)
    g_loss = generator_step(state, batch, d_out)
    g_norm = optimizer_step(state, "generator", state.generator)
    state.ema.update(state.generator)
    state.step += 1
    real_B, fake_B = d_out.real_score_B, d_out.fake_score_B
    values = torch.stack([d_out.loss, g_loss, real_B.mean(), fake_B.mean(), d_out.penalty, d_norm, g_norm])
    # The norms are those of the averaged gradients and therefore equal on all ranks.
    fraction = batch.rank_weight / state.world.size
    weights = torch.tensor([fraction] * 5 + [1 / state.world.size] * 2, device=values.device)
    sign_B = torch.sign(real_B - fake_B) if state.config.loss == "relativistic" else torch.sign(real_B)
    return torch.cat([values * weights, (fraction * sign_B.mean())[None]])


def set_learning_rates(state: GanTrainState) -> None:
    """Set both learning rates for the current step: linear warmup, then cosine decay."""
    config = state.config
    total_steps = config.epochs * state.steps_per_epoch
    factor = cosine_factor(state.step, total_steps, config.warmup_steps, config.final_lr_factor)
    factor *= state.lr_scale
    for name, lr in (("generator", config.generator_lr), ("discriminator", config.discriminator_lr)):
        for group in state.optimizers[name].param_groups:
            group["lr"] = lr * factor


def train_epoch(state: GanTrainState, log: RunLog) -> dict[str, float]:
    """Train for one epoch; return the means of `METRIC_NAMES` over steps and ranks, ADA state, speed."""
    config, world = state.config, state.world
    state.generator.train()
    rng = np.random.default_rng([config.seed, state.rollbacks, state.epoch])
    orders = [
        epoch_order(state.labels, state.split.train, config.sampling, rng)
        for _ in range(state.passes_per_epoch)
    ]
    batches = [rows for order in orders for rows in epoch_batches(order, config.batch_size)]
    start_time = time.perf_counter()
    epoch_sums = torch.zeros(len(METRIC_NAMES) + 1, device=world.device)
    ada_sums = epoch_sums.clone()
    with watchdog(world.timeout_s) as heartbeat:
        for number, rows in enumerate(batches):
            step_metrics = train_step(state, rows, number)
            epoch_sums += step_metrics
            ada_sums += step_metrics
            if (number + 1) % config.penalty_interval == 0:
                ada_rt = float(world.sum(ada_sums)[-1]) / config.penalty_interval
                clips = config.penalty_interval * config.batch_size
                state.ada_p = update_ada_probability(state.ada_p, ada_rt, clips, config.ada)
                ada_sums = torch.zeros_like(ada_sums)
            log.step(state.epoch + 1, number + 1, len(batches), start_time)
            heartbeat()
    means = (world.sum(epoch_sums) / len(batches)).tolist()
    seconds = time.perf_counter() - start_time
    metrics = dict(zip(METRIC_NAMES, means[:-1], strict=True))
    # The mean over the steps that had a penalty.
    metrics["penalty"] *= min(config.penalty_interval, len(batches))
    return {
        **metrics,
        "ada_rt": means[-1],
        "augment_p": state.ada_p,
        "seconds": seconds,
        "steps_per_second": len(batches) / seconds,
        "learning_rate": state.optimizers["generator"].param_groups[0]["lr"],
    }


def train_loop(config: TrainGanConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """Run `train_epochs` to its end and return its result."""
    return exhaust(train_epochs(config, world, owner))


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
    checkpoint = world.run_on_all_ranks(checkpoints.read)
    if checkpoint is not None:
        restore(state, *checkpoint)
    is_main = world.rank == 0
    log = world.run_on_all_ranks(partial(open_run_log, run, is_main, state.history, config.epochs))
    with closing(log):
        while state.epoch < config.epochs:
            metrics: dict[str, Any] = train_epoch(state, log)
            metrics["diversity"] = sample_diversity(state)
            reason = detect_collapse(metrics, state.history)
            if reason is not None:
                state = rollback(state, reason, world.run_on_all_ranks(checkpoints.read), log)
                continue
            state.epoch += 1
            sampled = state.epoch % config.sample_every == 0 or state.epoch == config.epochs
            write_snapshot = partial(state.snapshots.write, state.ema.model, state.epoch, world.device)
            # `dict` is a no-op for the other ranks: `run_on_all_ranks` is a collective.
            sample_metrics: dict[str, float] = world.run_on_all_ranks(
                write_snapshot if is_main and sampled else dict
            )
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
            world.run_on_all_ranks(partial(run.check_owner, owner) if is_main else dict)
            world.run_on_all_ranks(partial(publish, state, checkpoints, log, improved) if is_main else dict)
            yield state.history[-1]
    return {
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "rollbacks": state.rollbacks,
        **(state.history[state.best_epoch - 1] if is_main else {}),
    }


def update_best(state: GanTrainState, sample_metrics: dict[str, float], sampled: bool) -> bool:
    """Record the epoch if it is the best so far; return whether it is.

    Without a Fréchet distance the newest sampled epoch is always the best.
    """
    if "frechet" not in sample_metrics:
        if sampled or state.best_frechet is None:
            state.best_epoch = state.epoch
            return True
        return False
    if state.best_frechet is not None and sample_metrics["frechet"] >= state.best_frechet:
        return False
    state.best_frechet, state.best_epoch = sample_metrics["frechet"], state.epoch
    return True

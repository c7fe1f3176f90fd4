"""Training of the GAN, from top to bottom: a step of each network, an epoch, the loop of one worker.

for each epoch
    for each batch               the same order and the same draws on every worker; each takes its part
        discriminator_step       real and drawn clips, changed alike; now and then the gradient penalties
        generator_step           drawn clips against the scores of the real ones; averaged weights follow
    health                       a collapsed epoch is thrown away, and the training goes back to the last good one
    samples                      every few epochs: sounds, a picture, and what the judge says of them
    checkpoint                   rank 0 publishes the whole state; a restart goes on from the newest
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
from pipeline.gan.state import GanTraining, prepare, publish, restore
from pipeline.io.errors import UserError
from pipeline.training.checkpoint import Checkpoints
from pipeline.training.log import RunLog, open_run_log
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import EpochGenerator, World, exhaust, rank_slice

# Names of what is counted over the steps of an epoch, in the order of their sums.
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
    """This worker's part of a step: real clips in dB, all classes, and what is drawn and changed."""

    real_BMT: Tensor
    label_B: Tensor
    latents: tuple[Latents, Latents]
    draw: BatchAugmentation
    weight: float
    """Makes the mean over workers of a loss, each a mean over its part, the mean over the whole batch."""


def make_batch(t: GanTraining, batch: np.ndarray, number: int) -> Batch:
    """Draws a step for the whole batch, and takes this worker's part."""
    seed = [t.config.seed, t.rollbacks, t.epoch, number]
    draw = sample_augmentation(np.random.default_rng(seed), len(batch), t.config.augment, t.ada_p)
    torch_rng = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    latents = [sample_latents(t.config.gan, t.rows.features.shape, len(batch), torch_rng) for _ in range(2)]
    part = rank_slice(len(batch), t.world)
    return Batch(
        real_BMT=t.store(batch[part]).float(),
        label_B=torch.from_numpy(t.labels[batch[part]]).to(t.world.device),
        latents=(latents[0][part].to(t.world.device), latents[1][part].to(t.world.device)),
        draw=draw[part],
        weight=(part.stop - part.start) * t.world.size / len(batch),
    )


@dataclass(frozen=True)
class DiscriminatorOutput:
    """What a step of the discriminator leaves, of this worker's part and without gradients."""

    real_B: Tensor
    drawn_B: Tensor
    loss: Tensor
    penalty: Tensor
    drawn_BMT: Tensor
    """The clips that it took for drawn ones, in dB."""


def discriminator_step(t: GanTraining, b: Batch) -> DiscriminatorOutput:
    """One step of the discriminator."""
    with torch.no_grad(), t.autocast():
        drawn_BMT = t.draw(b.latents[0], b.label_B)
    fill_M = t.discriminator.mel_mean_M
    seen = torch.cat([augment(b.real_BMT, b.draw, fill_M), augment(drawn_BMT, b.draw, fill_M)])
    labels = torch.cat([b.label_B, b.label_B])
    with t.autocast():
        scores_B, logits_BC = t.discriminator(seen, labels)
    real_B, drawn_B = scores_B.chunk(2)
    loss = discriminator_loss(t.config.loss, real_B, drawn_B)
    named = F.cross_entropy(logits_BC.chunk(2)[0], b.label_B)
    (b.weight * (loss + t.config.class_weight * named)).backward()
    penalty = torch.zeros((), device=t.world.device)
    if t.step % t.config.penalty_interval == 0 and t.config.penalty_weight:
        with t.autocast():
            # R1 and R2 in one pass: the sum of two means over halves of equal size.
            penalty = (
                2
                * gradient_penalty(
                    lambda mel: t.discriminator(mel, labels)[0], seen, t.discriminator.mel_std_M
                ).mean()
            )
        final = t.config.penalty_final_factor
        weight = t.config.penalty_weight * (final + (1 - final) * (1 - t.through)) * t.config.penalty_interval
        (b.weight * weight * penalty).backward()
    return DiscriminatorOutput(real_B.detach(), drawn_B.detach(), loss.detach(), penalty.detach(), drawn_BMT)


def generator_step(t: GanTraining, b: Batch, j: DiscriminatorOutput) -> Tensor:
    """One step of the generator, against the scores that the real clips had a moment ago; returns the loss of this worker's part."""
    t.discriminator.requires_grad_(False)
    with t.autocast():
        drawn_BMT = t.draw(b.latents[1], b.label_B)
        drawn_B, logits_BC = t.discriminator(
            augment(drawn_BMT, b.draw, t.discriminator.mel_mean_M), b.label_B
        )
    loss = generator_loss(t.config.loss, drawn_B, j.real_B)
    named = F.cross_entropy(logits_BC, b.label_B)
    alike = diversity_loss(drawn_BMT, j.drawn_BMT, t.generator.mel_std_M, t.real_difference)
    (b.weight * (loss + t.config.class_weight * named + t.config.diversity_weight * alike)).backward()
    t.discriminator.requires_grad_(True)
    return loss.detach()


def update(t: GanTraining, name: str, model: nn.Module) -> Tensor:
    """Averages a network's gradients over the workers, clips them and steps; returns their norm."""
    t.world.average_gradients(model)
    norm = nn.utils.clip_grad_norm_(model.parameters(), t.config.max_grad_norm)
    t.optimizers[name].step()
    t.optimizers[name].zero_grad(set_to_none=True)
    return norm


def train_step(t: GanTraining, batch: np.ndarray, number: int) -> Tensor:
    """One step of both networks; returns the values of `METRIC_NAMES` as the whole batch's mean, split over workers."""
    b = make_batch(t, batch, number)
    set_learning_rates(t)
    j = discriminator_step(t, b)
    d_norm = update(t, "discriminator", t.discriminator)
    g_loss = generator_step(t, b, j)
    g_norm = update(t, "generator", t.generator)
    t.ema.update(t.generator)
    t.step += 1
    part = b.weight / t.world.size
    own = torch.stack([j.loss, g_loss, j.real_B.mean(), j.drawn_B.mean(), j.penalty, d_norm, g_norm])
    # The norms are those of the averaged gradients already, equal on all workers.
    share = torch.tensor([part] * 5 + [1 / t.world.size] * 2, device=own.device)
    sure_B = torch.sign(j.real_B - j.drawn_B) if t.config.loss == "relativistic" else torch.sign(j.real_B)
    return torch.cat([own * share, (part * sure_B.mean())[None]])


def set_learning_rates(t: GanTraining) -> None:
    """Both learning rates as they are at this step."""
    factor = (
        cosine_factor(
            t.step, t.config.epochs * t.steps_per_epoch, t.config.warmup_steps, t.config.final_lr_factor
        )
        * t.lr_scale
    )
    for name, rate in (("generator", t.config.generator_lr), ("discriminator", t.config.discriminator_lr)):
        for group in t.optimizers[name].param_groups:
            group["lr"] = rate * factor


def train_epoch(t: GanTraining, log: RunLog) -> dict[str, float]:
    """One epoch; the means of `METRIC_NAMES` over its steps and all workers, and its speed."""
    t.generator.train()
    rng = np.random.default_rng([t.config.seed, t.rollbacks, t.epoch])
    orders = [epoch_order(t.labels, t.split.train, t.config.sampling, rng) for _ in range(t.passes)]
    batches = [batch for order in orders for batch in epoch_batches(order, t.config.batch_size)]
    start = time.perf_counter()
    total = torch.zeros(len(METRIC_NAMES) + 1, device=t.world.device)
    since = total.clone()
    with watchdog(t.world.timeout_s) as alive:
        for number, batch in enumerate(batches):
            counted = train_step(t, batch, number)
            total += counted
            since += counted
            if (number + 1) % t.config.penalty_interval == 0:
                ada_rt = float(t.world.sum(since)[-1]) / t.config.penalty_interval
                t.ada_p = update_ada_probability(
                    t.ada_p, ada_rt, t.config.penalty_interval * t.config.batch_size, t.config.ada
                )
                since = torch.zeros_like(since)
            log.step(t.epoch + 1, number + 1, len(batches), start)
            alive()
    means = (t.world.sum(total) / len(batches)).tolist()
    seconds = time.perf_counter() - start
    result = dict(zip(METRIC_NAMES, means[:-1], strict=True))
    result["penalty"] *= min(t.config.penalty_interval, len(batches))
    rate = t.optimizers["generator"].param_groups[0]["lr"]
    speed = {"seconds": seconds, "steps_per_second": len(batches) / seconds, "learning_rate": rate}
    return {**result, "ada_rt": means[-1], "augment_p": t.ada_p, **speed}


def train_loop(config: TrainGanConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """`train_epochs` to its end; returns its result."""
    return exhaust(train_epochs(config, world, owner))


def train_epochs(config: TrainGanConfig, world: World, owner: str | None = None) -> EpochGenerator:
    """The whole training, as every worker runs it, from the newest checkpoint of the run if there is one; yields after each epoch.

    It writes to the run for as long as `owner` is the run's.

    Raises:
        UserError: on every worker, with the same text.
    """
    t = prepare(config, world)
    run = RunFolder(config.run)
    checkpoints = Checkpoints(config.run)
    state = world.run_on_all_ranks(checkpoints.read)
    if state is not None:
        restore(t, *state)
    first = world.rank == 0
    with closing(world.run_on_all_ranks(partial(open_run_log, run, first, t.history, config.epochs))) as log:
        while t.epoch < config.epochs:
            line = train_epoch(t, log)
            line["diversity"] = spread(t)
            fault = detect_collapse(line, t.history)
            if fault is not None:
                t = rollback(t, fault, world.run_on_all_ranks(checkpoints.read))
                continue
            t.epoch += 1
            sampled = t.epoch % config.sample_every == 0 or t.epoch == config.epochs
            verdict: dict[str, float] = world.run_on_all_ranks(
                partial(t.sampler.sample, t.ema.model, t.epoch, world.device) if first and sampled else dict
            )
            improved = update_best(t, verdict, sampled) if first else False
            t.history.append({"epoch": t.epoch, **line, **verdict, **_rollback(t), "best": improved})
            world.run_on_all_ranks(partial(run.check_owner, owner) if first else dict)
            world.run_on_all_ranks(partial(publish, t, checkpoints, log, improved) if first else dict)
            yield t.history[-1]
    return {
        "epochs": t.epoch,
        "best_epoch": t.best_epoch,
        "rollbacks": t.rollbacks,
        **(t.history[t.best_epoch - 1] if first else {}),
    }


def spread(t: GanTraining) -> float:
    """Diversity of the fixed samples within their classes, as part of that of the real clips; the first worker's, so that all agree."""
    own = t.sampler.spread(t.ema.model, t.world.device) / t.real_diversity if t.world.rank == 0 else 0.0
    return float(t.world.sum(torch.tensor(own, dtype=torch.float64, device=t.world.device)))


def rollback(
    t: GanTraining, fault: str, state: tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None
) -> GanTraining:
    """The training at its last good checkpoint, or at its start, from where it takes another way at half the rates.

    Raises:
        UserError: when it has gone back often enough.
    """
    rollbacks, lr_scale = t.rollbacks + 1, t.lr_scale / 2
    what = f"epoch {t.epoch + 1} collapsed: {fault}"
    if rollbacks > t.config.max_rollbacks:
        raise UserError(
            f"{what}; it is collapse {rollbacks}, more than --max-rollbacks {t.config.max_rollbacks}: lower --generator-lr and "
            f"--discriminator-lr, or raise --penalty-weight; the best model so far is in {t.config.run}"
        )
    t = prepare(t.config, t.world)
    if state is not None:
        restore(t, *state)
    t.rollbacks, t.lr_scale = rollbacks, lr_scale
    if t.world.rank == 0:
        print(f"{what}; back to epoch {t.epoch}, at rates lower by {1 / lr_scale:.0f} x", flush=True)
    t.collapse = what
    return t


def update_best(t: GanTraining, verdict: dict[str, float], sampled: bool) -> bool:
    """Whether the judge finds this epoch the best so far; where nothing is judged the newest always is."""
    if "frechet" not in verdict:
        if sampled or t.best is None:
            t.best_epoch = t.epoch
            return True
        return False
    if t.best is not None and verdict["frechet"] >= t.best:
        return False
    t.best, t.best_epoch = verdict["frechet"], t.epoch
    return True


def _rollback(t: GanTraining) -> dict[str, str]:
    """What the first epoch after a collapse says of it."""
    what, t.collapse = t.collapse, ""
    return {"collapse": what} if what else {}

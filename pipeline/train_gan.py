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
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.batch_augment import BatchDraw
from models.ema import Ema
from models.gan import Discriminator, Generator, Latents, draw_latents
from models.gan_augment import adapted_chance, change, draw_changes
from models.gan_losses import alike_loss, discriminator_loss, generator_loss, gradient_penalty
from models.gan_metrics import diversity, mean_difference
from models.schedule import cosine_factor
from pipeline.cache import Rows, open_rows
from pipeline.checkpoint import Checkpoints
from pipeline.errors import UserError, user_errors
from pipeline.gan_config import TrainGanConfig
from pipeline.gan_health import alarm
from pipeline.gan_samples import Sampler
from pipeline.model_file import GanCard, save_model
from pipeline.row_split import Split, split_rows
from pipeline.row_store import MelStore, epoch_order, mel_statistics
from pipeline.run_folder import RunFolder
from pipeline.run_log import RunLog, open_log
from pipeline.training import Epochs, World, epoch_batches, load_optimizer, optimizer_tensors, resolve_precision, run_out, share_of

# Rows whose values are looked at before the first step.
LOOKED_AT = 5000
# Names of what is counted over the steps of an epoch, in the order of their sums.
COUNTED = ("discriminator_loss", "generator_loss", "real_score", "drawn_score", "penalty", "discriminator_norm", "generator_norm")


@dataclass
class GanTraining:
    """Everything that one worker holds; what changes over time is in the checkpoint."""

    config: TrainGanConfig
    world: World
    rows: Rows
    split: Split
    store: MelStore
    labels: np.ndarray
    generator: Generator
    discriminator: Discriminator
    ema: Ema[Generator]
    optimizers: dict[str, torch.optim.Optimizer]
    autocast: Any
    draw: Any
    """The generator as it is called: itself, or compiled."""
    sampler: Sampler
    real_diversity: float
    real_difference: float
    step: int = 0
    epoch: int = 0
    chance: float = 0.0
    rate_factor: float = 1.0
    rollbacks: int = 0
    best: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    collapse: str = ""
    """What the last one was, until the next good epoch has told it."""

    @property
    def passes(self) -> int:
        """Times that an epoch passes over the training rows."""
        return max(1, -(-self.config.epoch_steps // self._batches))

    @property
    def steps_per_epoch(self) -> int:
        return self.passes * self._batches

    @property
    def through(self) -> float:
        """Part of all steps that is done, in [0, 1]."""
        return min(1.0, self.step / (self.config.epochs * self.steps_per_epoch))

    @property
    def _batches(self) -> int:
        return max(1, -(-len(self.split.train) // self.config.batch_size))


@dataclass(frozen=True)
class Batch:
    """This worker's part of a step: real clips in dB, all classes, and what is drawn and changed."""

    real_BMT: Tensor
    label_B: Tensor
    latents: tuple[Latents, Latents]
    draw: BatchDraw
    weight: float
    """Makes the mean over workers of a loss, each a mean over its part, the mean over the whole batch."""


def prepare(config: TrainGanConfig, world: World) -> GanTraining:
    """Data, networks and optimisers before the first step, equal on all workers."""
    rows = world.together(lambda: open_rows(config.shards))
    split = split_rows(rows, config)
    check_rows(rows, split, config, world)
    torch.manual_seed(config.seed)
    shape = rows.features.shape
    generator = Generator(config.gan, shape, len(rows.class_names))
    discriminator = Discriminator(config.gan, shape, len(rows.class_names))
    statistics = mel_statistics(rows.mels, split.train)
    for model in (generator, discriminator):
        model.set_statistics(*statistics)
        model.to(world.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dtype = resolve_precision(config.precision, world.device)
    some = split.train[:: max(1, len(split.train) // 1000)]
    return GanTraining(
        config=config,
        world=world,
        rows=rows,
        split=split,
        store=MelStore([rows.mels], world.device),
        labels=rows.labels,
        generator=generator,
        discriminator=discriminator,
        ema=Ema(generator, config.ema_decay),
        optimizers={
            "generator": _adam(generator, config.generator_rate),
            "discriminator": _adam(discriminator, config.discriminator_rate),
        },
        autocast=partial(torch.autocast, world.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None),
        # Not the discriminator: compiled code can't be differentiated twice.
        draw=torch.compile(generator) if config.compile else generator,
        sampler=Sampler(config, rows, split),
        real_diversity=max(diversity(rows.mels[some].astype(np.float32), rows.labels[some]), 1e-6),
        real_difference=max(mean_difference(rows.mels[some], rows.labels[some], generator.mel_std_M.cpu().numpy()), 1e-6),
        chance=config.ada.chance,
    )


def check_rows(rows: Rows, split: Split, config: TrainGanConfig, world: World) -> None:
    """Refuses what no GAN can learn from.

    Raises:
        UserError: more workers than rows, a class with fewer than two clips, or values that are no numbers.
    """
    if config.batch_size < world.size:
        raise UserError(f"--workers {world.size}: more than the --batch-size {config.batch_size}; each needs a clip of every step")
    counts = np.bincount(rows.labels[split.train], minlength=len(rows.class_names))
    if counts.min() < 2:
        name = rows.class_names[int(counts.argmin())]
        raise UserError(
            f"class '{name}' has {counts.min()} training clips: a generator needs two or more of each; add some, or leave it out"
        )
    for row in split.train[:: max(1, len(split.train) // LOOKED_AT)]:
        if not np.isfinite(rows.mels[row]).all():
            raise UserError(f"clip '{rows.table['clip_id'][row]}' holds values that are no numbers: extract {config.shards} again")


def make_batch(t: GanTraining, batch: np.ndarray, number: int) -> Batch:
    """Draws a step for the whole batch, and takes this worker's part."""
    seed = [t.config.seed, t.rollbacks, t.epoch, number]
    draw = draw_changes(np.random.default_rng(seed), len(batch), t.config.change, t.chance)
    torch_rng = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    latents = [draw_latents(t.config.gan, t.rows.features.shape, len(batch), torch_rng) for _ in range(2)]
    part = share_of(len(batch), t.world)
    return Batch(
        real_BMT=t.store(batch[part]).float(),
        label_B=torch.from_numpy(t.labels[batch[part]]).to(t.world.device),
        latents=(latents[0][part].to(t.world.device), latents[1][part].to(t.world.device)),
        draw=draw[part],
        weight=(part.stop - part.start) * t.world.size / len(batch),
    )


@dataclass(frozen=True)
class Judgement:
    """What a step of the discriminator leaves, of this worker's part and without gradients."""

    real_B: Tensor
    drawn_B: Tensor
    loss: Tensor
    penalty: Tensor
    drawn_BMT: Tensor
    """The clips that it took for drawn ones, in dB."""


def discriminator_step(t: GanTraining, b: Batch) -> Judgement:
    """One step of the discriminator."""
    with torch.no_grad(), t.autocast():
        drawn_BMT = t.draw(b.latents[0], b.label_B)
    fill_M = t.discriminator.mel_mean_M
    seen = torch.cat([change(b.real_BMT, b.draw, fill_M), change(drawn_BMT, b.draw, fill_M)])
    labels = torch.cat([b.label_B, b.label_B])
    with t.autocast():
        scores_B, logits_BC = t.discriminator(seen, labels)
    real_B, drawn_B = scores_B.chunk(2)
    loss = discriminator_loss(t.config.loss, real_B, drawn_B)
    named = F.cross_entropy(logits_BC.chunk(2)[0], b.label_B)
    (b.weight * (loss + t.config.class_weight * named)).backward()
    penalty = torch.zeros((), device=t.world.device)
    if t.step % t.config.penalty_every == 0 and t.config.penalty_weight:
        with t.autocast():
            # R1 and R2 in one pass: the sum of two means over halves of equal size.
            penalty = 2 * gradient_penalty(lambda mel: t.discriminator(mel, labels)[0], seen, t.discriminator.mel_std_M).mean()
        final = t.config.penalty_final
        weight = t.config.penalty_weight * (final + (1 - final) * (1 - t.through)) * t.config.penalty_every
        (b.weight * weight * penalty).backward()
    return Judgement(real_B.detach(), drawn_B.detach(), loss.detach(), penalty.detach(), drawn_BMT)


def generator_step(t: GanTraining, b: Batch, j: Judgement) -> Tensor:
    """One step of the generator, against the scores that the real clips had a moment ago; returns the loss of this worker's part."""
    t.discriminator.requires_grad_(False)
    with t.autocast():
        drawn_BMT = t.draw(b.latents[1], b.label_B)
        drawn_B, logits_BC = t.discriminator(change(drawn_BMT, b.draw, t.discriminator.mel_mean_M), b.label_B)
    loss = generator_loss(t.config.loss, drawn_B, j.real_B)
    named = F.cross_entropy(logits_BC, b.label_B)
    alike = alike_loss(drawn_BMT, j.drawn_BMT, t.generator.mel_std_M, t.real_difference)
    (b.weight * (loss + t.config.class_weight * named + t.config.alike_weight * alike)).backward()
    t.discriminator.requires_grad_(True)
    return loss.detach()


def update(t: GanTraining, name: str, model: nn.Module) -> Tensor:
    """Averages a network's gradients over the workers, clips them and steps; returns their norm."""
    t.world.average_gradients(model)
    norm = nn.utils.clip_grad_norm_(model.parameters(), t.config.clip_norm)
    t.optimizers[name].step()
    t.optimizers[name].zero_grad(set_to_none=True)
    return norm


def train_step(t: GanTraining, batch: np.ndarray, number: int) -> Tensor:
    """One step of both networks; returns the values of `COUNTED` as the whole batch's mean, split over workers."""
    b = make_batch(t, batch, number)
    set_rates(t)
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


def set_rates(t: GanTraining) -> None:
    """Both learning rates as they are at this step."""
    factor = cosine_factor(t.step, t.config.epochs * t.steps_per_epoch, t.config.warmup_steps, t.config.final_rate) * t.rate_factor
    for name, rate in (("generator", t.config.generator_rate), ("discriminator", t.config.discriminator_rate)):
        for group in t.optimizers[name].param_groups:
            group["lr"] = rate * factor


def train_epoch(t: GanTraining, log: RunLog) -> dict[str, float]:
    """One epoch; the means of `COUNTED` over its steps and all workers, and its speed."""
    t.generator.train()
    rng = np.random.default_rng([t.config.seed, t.rollbacks, t.epoch])
    orders = [epoch_order(t.labels, t.split.train, t.config.sampling, rng) for _ in range(t.passes)]
    batches = [batch for order in orders for batch in epoch_batches(order, t.config.batch_size)]
    start = time.perf_counter()
    total = torch.zeros(len(COUNTED) + 1, device=t.world.device)
    since = total.clone()
    for number, batch in enumerate(batches):
        counted = train_step(t, batch, number)
        total += counted
        since += counted
        if (number + 1) % t.config.penalty_every == 0:
            sureness = float(t.world.sum(since)[-1]) / t.config.penalty_every
            t.chance = adapted_chance(t.chance, sureness, t.config.penalty_every * t.config.batch_size, t.config.ada)
            since = torch.zeros_like(since)
        log.step(t.epoch + 1, number + 1, len(batches), start)
    means = (t.world.sum(total) / len(batches)).tolist()
    seconds = time.perf_counter() - start
    result = dict(zip(COUNTED, means[:-1], strict=True))
    result["penalty"] *= min(t.config.penalty_every, len(batches))
    rate = t.optimizers["generator"].param_groups[0]["lr"]
    speed = {"seconds": seconds, "steps_per_second": len(batches) / seconds, "learning_rate": rate}
    return {**result, "sureness": means[-1], "augment_chance": t.chance, **speed}


def train_loop(config: TrainGanConfig, world: World, owner: str | None = None) -> dict[str, Any]:
    """`train_epochs` to its end; returns its result."""
    return run_out(train_epochs(config, world, owner))


def train_epochs(config: TrainGanConfig, world: World, owner: str | None = None) -> Epochs:
    """The whole training, as every worker runs it, from the newest checkpoint of the run if there is one; yields after each epoch.

    It writes to the run for as long as `owner` is the run's.

    Raises:
        UserError: on every worker, with the same text.
    """
    t = prepare(config, world)
    run = RunFolder(config.run)
    checkpoints = Checkpoints(config.run)
    state = world.together(checkpoints.read)
    if state is not None:
        restore(t, *state)
    first = world.rank == 0
    with closing(world.together(partial(open_log, run, first, t.history, config.epochs))) as log:
        while t.epoch < config.epochs:
            line = train_epoch(t, log)
            line["diversity"] = spread(t)
            fault = alarm(line, t.history)
            if fault is not None:
                t = go_back(t, fault, world.together(checkpoints.read))
                continue
            t.epoch += 1
            sampled = t.epoch % config.sample_every == 0 or t.epoch == config.epochs
            verdict: dict[str, float] = world.together(
                partial(t.sampler.sample, t.ema.model, t.epoch, world.device) if first and sampled else dict
            )
            improved = note_best(t, verdict, sampled) if first else False
            t.history.append({"epoch": t.epoch, **line, **verdict, **_rollback(t), "best": improved})
            world.together(partial(run.check_owner, owner) if first else dict)
            world.together(partial(publish, t, checkpoints, log, improved) if first else dict)
            yield t.history[-1]
    return {"epochs": t.epoch, "best_epoch": t.best_epoch, "rollbacks": t.rollbacks, **(t.history[t.best_epoch - 1] if first else {})}


def spread(t: GanTraining) -> float:
    """Diversity of the fixed samples within their classes, as part of that of the real clips; the first worker's, so that all agree."""
    own = t.sampler.spread(t.ema.model, t.world.device) / t.real_diversity if t.world.rank == 0 else 0.0
    return float(t.world.sum(torch.tensor(own, dtype=torch.float64, device=t.world.device)))


def go_back(t: GanTraining, fault: str, state: tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None) -> GanTraining:
    """The training at its last good checkpoint, or at its start, from where it takes another way at half the rates.

    Raises:
        UserError: when it has gone back often enough.
    """
    rollbacks, rate_factor = t.rollbacks + 1, t.rate_factor / 2
    what = f"epoch {t.epoch + 1} collapsed: {fault}"
    if rollbacks > t.config.max_rollbacks:
        raise UserError(
            f"{what}; it is collapse {rollbacks}, more than --max-rollbacks {t.config.max_rollbacks}: lower --generator-rate and "
            f"--discriminator-rate, or raise --penalty-weight; the best model so far is in {t.config.run}"
        )
    t = prepare(t.config, t.world)
    if state is not None:
        restore(t, *state)
    t.rollbacks, t.rate_factor = rollbacks, rate_factor
    if t.world.rank == 0:
        print(f"{what}; back to epoch {t.epoch}, at rates lower by {1 / rate_factor:.0f} x", flush=True)
    t.collapse = what
    return t


def note_best(t: GanTraining, verdict: dict[str, float], sampled: bool) -> bool:
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


def publish(t: GanTraining, checkpoints: Checkpoints, log: RunLog, improved: bool) -> None:
    """Writes the generator if it is the best, then the checkpoint, then the log: a crash between repeats the epoch, no more."""
    with user_errors("writing to", t.config.run):
        if improved:
            training = {**t.history[-1], "config": t.config.identity()}
            card = GanCard(model=t.config.gan, features=t.rows.features, class_names=t.rows.class_names, training=training)
            save_model(t.config.run, t.ema.model, card)
        tensors = {
            "generator": t.generator.state_dict(),
            "discriminator": t.discriminator.state_dict(),
            "ema": t.ema.model.state_dict(),
            "generator_optimizer": optimizer_tensors(t.generator, t.optimizers["generator"]),
            "discriminator_optimizer": optimizer_tensors(t.discriminator, t.optimizers["discriminator"]),
        }
        progress = {name: getattr(t, name) for name in PROGRESS}
        checkpoints.write(t.epoch, tensors, {**progress, "ema_step": t.ema.step, "history": t.history})
        log.epoch(t.history)


# What changes over time, beside tensors and history.
PROGRESS = ("step", "epoch", "chance", "rate_factor", "rollbacks", "best", "best_epoch")


def restore(t: GanTraining, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> None:
    """Puts a worker where the checkpoint was written."""
    t.generator.load_state_dict(tensors["generator"])
    t.discriminator.load_state_dict(tensors["discriminator"])
    t.ema.model.load_state_dict(tensors["ema"])
    load_optimizer(t.generator, t.optimizers["generator"], tensors["generator_optimizer"])
    load_optimizer(t.discriminator, t.optimizers["discriminator"], tensors["discriminator_optimizer"])
    for name in PROGRESS:
        setattr(t, name, state[name])
    t.ema.step, t.history = state["ema_step"], state["history"]


def _rollback(t: GanTraining) -> dict[str, str]:
    """What the first epoch after a collapse says of it."""
    what, t.collapse = t.collapse, ""
    return {"collapse": what} if what else {}


def _adam(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=rate, betas=(0.0, 0.99), fused=True)

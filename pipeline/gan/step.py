"""Training step of the GAN.

plan_step      samples latents (on a CPU) and augmentation and gathers this rank's inputs on the host; ahead
               of a GPU in a thread
train_step     runs three parts on the device, on a GPU as CUDA graphs without any synchronization:
    update_discriminator    gradients of the discriminator, averaged over workers after it
    update_generator        its optimizer; gradients of the generator, averaged over workers after it
    finish                  its optimizer, EMA, metrics

Shape suffixes: B batch (this rank's slice), M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.augmentation_params import AugmentationTensors
from models.gan import Latents, sample_latents
from models.gan_augment import apply_with_probability, augment, sample_augmentation, sample_uniform
from models.gan_losses import discriminator_loss, diversity_loss, generator_loss, gradient_penalty
from pipeline.gan.schedule import class_weight, learning_rate_factor, penalty_weight
from pipeline.gan.state import GanTrainState
from pipeline.training.optim import set_learning_rate
from pipeline.training.step_inputs import Inputs, PackedInputs, prepare_inputs
from pipeline.training.step_runner import StepPart
from pipeline.training.world import rank_slice

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
class StepPlan:
    """Inputs of a step, and what decides which operations it has."""

    inputs: PackedInputs | Inputs
    size: int
    """Clips of the global batch."""
    local_slice: slice
    """This rank's slice of them."""
    has_penalty: bool
    """Whether the step has gradient penalties."""


def plan_step(state: GanTrainState, rows: np.ndarray, number: int) -> StepPlan:
    """Sample the augmentation of a global batch, and return the inputs of this rank's step.

    Depends on the state before the epoch only, so that a thread can work ahead.

    Args:
        state: training state of this worker.
        rows: row indices of the global batch.
        number: index of the batch in its epoch; seeds the sampling together with the epoch.
    """
    config, step = state.config, state.epoch_step + number
    seed = [config.seed, state.rollbacks, state.epoch, number]
    rng = np.random.default_rng(seed)
    local_slice = rank_slice(len(rows), state.world)
    augmentation = sample_augmentation(rng, len(rows), config.augment)[local_slice]
    local_rows = rows[local_slice]
    rank_weight = len(local_rows) * state.world.size / len(rows)
    arrays: dict[str, np.ndarray | float] = {
        **augmentation.arrays(*state.dataset.features.shape),
        **state.loader.arrays(local_rows),
        "uniform_4B": np.ascontiguousarray(sample_uniform(rng, len(rows))[:, local_slice]),
        "label_B": state.labels[local_rows],
        "rank_weight": rank_weight,
        "rank_fraction": rank_weight / state.world.size,
        "class_weight": class_weight(state, step),
        "penalty_weight": penalty_weight(state, step),
        "ema_weight": state.ema.weight_at(step),
        "generator_lr": config.generator_lr * learning_rate_factor(state, step),
        "discriminator_lr": config.discriminator_lr * learning_rate_factor(state, step),
    }
    if state.world.device.type == "cpu":
        torch_rng = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        latents = sample_latents(config.gan, state.dataset.features.shape, len(rows), torch_rng)
        second_z_BZ = torch.randn(len(rows), config.gan.latent_dim, generator=torch_rng)
        for name, values in (("z_1", latents.z_BZ), ("z_2", second_z_BZ), ("noise", latents.noise_BMT)):
            arrays[name] = values[local_slice].numpy()
    return StepPlan(
        prepare_inputs(arrays, state.world.device),
        len(rows),
        local_slice,
        step % config.penalty_interval == 0 and config.penalty_weight > 0,
    )


@dataclass(frozen=True)
class Batch:
    """This rank's slice of a step: real clips in dB, labels of real and fake clips, latents, augmentation."""

    real_BMT: Tensor
    label_B: Tensor
    latents: tuple[Latents, Latents]
    """Latents of the discriminator step and of the generator step, with the same noise."""
    augmentation: AugmentationTensors
    rank_weight: Tensor | float
    """Factor that makes the mean of the ranks' mean losses the mean over the global batch."""
    class_weight: Tensor | float
    """Weight of the classification loss."""
    penalty_weight: Tensor | float | None
    """Weight of the gradient penalties, None for a step without them."""


def make_batch(state: GanTrainState, plan: StepPlan, inputs: Inputs) -> Batch:
    """Return this rank's slice of a step, on its device.

    Args:
        state: training state of this worker.
        plan: plan of the step.
        inputs: inputs of the plan on the device.
    """
    augmentation = AugmentationTensors.select(inputs)
    return Batch(
        real_BMT=state.loader.take(inputs).float(),
        label_B=inputs["label_B"],
        latents=_latents(state, plan, inputs),
        augmentation=apply_with_probability(augmentation, inputs["uniform_4B"], state.ada_p),
        rank_weight=inputs["rank_weight"],
        class_weight=inputs["class_weight"],
        penalty_weight=inputs["penalty_weight"] if plan.has_penalty else None,
    )


def _latents(state: GanTrainState, plan: StepPlan, inputs: Inputs) -> tuple[Latents, Latents]:
    """Return the latents of both parts of a step: on a CPU its inputs, on a GPU sampled there.

    Every rank samples those of the global batch, so that they do not depend on the number of workers. Both
    have the same noise: the diversity loss would otherwise count a difference in texture as variety, and
    reward a generator for noise.
    """
    if "noise" in inputs:
        return Latents(inputs["z_1"], inputs["noise"]), Latents(inputs["z_2"], inputs["noise"])
    shape, device = state.dataset.features.shape, state.world.device
    first_BZ, second_BZ = torch.randn(2, plan.size, state.config.gan.latent_dim, device=device).unbind()
    noise_BMT = torch.randn(plan.size, *shape, device=device)
    return Latents(first_BZ, noise_BMT)[plan.local_slice], Latents(second_BZ, noise_BMT)[plan.local_slice]


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
    (batch.rank_weight * (loss + batch.class_weight * class_loss)).backward()
    penalty = torch.zeros((), device=state.world.device)
    if batch.penalty_weight is not None:
        with state.autocast():
            penalties = gradient_penalty(
                lambda mel: discriminator(mel, labels)[0], mels, discriminator.mel_std_M
            )
            # R1 and R2 in one pass: twice the mean over both halves is the sum of their means.
            penalty = 2 * penalties.mean()
        (batch.rank_weight * batch.penalty_weight * penalty).backward()
    return DiscriminatorOutput(
        real_score_B.detach(), fake_score_B.detach(), loss.detach(), penalty.detach(), fake_BMT
    )


def generator_step(state: GanTrainState, batch: Batch, d_out: DiscriminatorOutput) -> Tensor:
    """Compute the gradients of the generator, using the real scores of the discriminator step.

    Returns:
        The adversarial loss of this rank's slice.
    """
    config, discriminator = state.config, state.discriminator
    with without_gradients(discriminator):
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
            state.real_difference_C[batch.label_B],
        )
        total = loss + batch.class_weight * class_loss + config.diversity_weight * similarity
        (batch.rank_weight * total).backward()
    return loss.detach()


@contextmanager
def without_gradients(network: nn.Module) -> Iterator[None]:
    """Compute no gradients of the weights of a network; also after an error, a later step computes them."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def optimizer_step(state: GanTrainState, name: str, model: nn.Module) -> Tensor:
    """Clip a network's averaged gradients and update its weights; return the gradient norm."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), state.config.max_grad_norm)
    state.optimizers[name].step()
    if not state.gradients:
        state.optimizers[name].zero_grad(set_to_none=True)
    return norm


def update_discriminator(
    state: GanTrainState, plan: StepPlan, inputs: Inputs, results: dict[str, Any]
) -> None:
    """First part of a step: compute the gradients of the discriminator."""
    for gradients in state.gradients.values():
        gradients.zero()
    results["batch"] = make_batch(state, plan, inputs)
    results["discriminator"] = discriminator_step(state, results["batch"])


def update_generator(state: GanTrainState, inputs: Inputs, results: dict[str, Any]) -> None:
    """Second part of a step: update the discriminator, and compute the gradients of the generator."""
    set_learning_rate(state.optimizers["discriminator"], inputs["discriminator_lr"])
    results["discriminator_norm"] = optimizer_step(state, "discriminator", state.discriminator)
    results["generator_loss"] = generator_step(state, results["batch"], results["discriminator"])


def finish(state: GanTrainState, inputs: Inputs, results: dict[str, Any]) -> None:
    """Third part of a step: update the generator and its EMA, and compute `metrics`."""
    set_learning_rate(state.optimizers["generator"], inputs["generator_lr"])
    generator_norm = optimizer_step(state, "generator", state.generator)
    state.ema.update(inputs["ema_weight"])
    d_out: DiscriminatorOutput = results["discriminator"]
    real_B, fake_B = d_out.real_score_B, d_out.fake_score_B
    sign_B = torch.sign(real_B - fake_B) if state.config.loss == "relativistic" else torch.sign(real_B)
    means = [d_out.loss, results["generator_loss"], real_B.mean(), fake_B.mean(), d_out.penalty]
    # The norms are those of the averaged gradients and therefore equal on all ranks.
    norms = torch.stack([results["discriminator_norm"], generator_norm]) * (1 / state.world.size)
    fraction = inputs["rank_fraction"]
    results["metrics"] = torch.cat([torch.stack(means) * fraction, norms, (fraction * sign_B.mean())[None]])


def train_step(state: GanTrainState, plan: StepPlan) -> Tensor:
    """Train both networks on a global batch. Nothing is read back from a GPU.

    Returns:
        This rank's contributions to `METRIC_NAMES` and, last, to ADA's r_t `[shape=(8,)]`; their sums over
        ranks are means over the global batch.
    """
    parts = [
        StepPart(partial(update_discriminator, state, plan), partial(_average, state, "discriminator")),
        StepPart(partial(update_generator, state), partial(_average, state, "generator")),
        StepPart(partial(finish, state)),
    ]
    variant = (plan.size, plan.local_slice.start, plan.has_penalty)
    results = state.runner.run(plan.inputs, parts, variant)
    state.step += 1
    state.ema.step += 1
    return results["metrics"]


def _average(state: GanTrainState, name: str) -> None:
    """Average the gradients of a network over all workers."""
    if state.gradients:
        state.gradients[name].average(state.world)
    else:
        state.world.average_gradients(getattr(state, name))

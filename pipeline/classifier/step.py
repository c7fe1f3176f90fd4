"""Training step of the classifier.

plan_step      samples the augmentation and gathers this rank's inputs on the host; ahead of a GPU in a thread
train_step     runs two parts on the device, on a GPU as CUDA graphs without any synchronization:
    compute_gradients    augment, MixUp, forward, loss, backward
    update_weights       clip the gradients averaged over workers, AdamW, EMA

Shape suffixes: B batch, L loaded samples, M mel bands, T frames, H heads, C classes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.augmentation_params import AugmentationTensors, BatchAugmentation, sample_batch_augmentation
from models.batch_augment import add_sounds, mask, mix, mix_powers, mix_targets, unite_targets, warp_and_gain
from models.repetition import repeat_short_clips
from pipeline.classifier.schedule import learning_rate
from pipeline.classifier.state import TrainState
from pipeline.training.optim import set_learning_rate
from pipeline.training.step_inputs import Inputs, PackedInputs, prepare_inputs
from pipeline.training.step_runner import StepPart
from pipeline.training.world import World, rank_slice


def plan_step(state: TrainState, batch: np.ndarray, number: int) -> PackedInputs | Inputs:
    """Sample the augmentation of a global batch, and return the inputs of this rank's step.

    Depends on the state before the epoch only, so that a thread can work ahead.

    Args:
        state: training state.
        batch: row indices of the global batch.
        number: index of the batch in its epoch.
    """
    config = state.config
    rng = np.random.default_rng([config.seed, state.epoch, number])
    augmentation = sample_batch_augmentation(
        rng, len(batch), config.mixup, config.spec_augment, config.augmentation_strength
    )
    if state.data.partition is not None:
        augmentation = replace(augmentation, partner=state.data.partition.partners(rng, len(batch)))
    samples, partner_B = choose_samples(state.world, augmentation)
    rows = batch[samples]
    step = state.epoch_step + number
    arrays: dict[str, np.ndarray | float] = {
        **augmentation[samples].arrays(*state.dataset.features.shape),
        **state.loader.arrays(rows),
        **({"label_B": state.labels[rows]} if state.multi_label is None else state.multi_label.arrays(rows)),
        # DDP averages gradients over ranks: scale the loss so that the average is the gradient of the mean
        # over the global batch, also if the slices differ by a row.
        "loss_scale": state.world.size / len(batch),
        # Every second one of a batch, whose order is random.
        "is_plain_B": samples % 2 == 0,
        "learning_rate": learning_rate(state, step),
        "ema_weight": state.ema.weight_at(step),
    }
    if partner_B is not None:
        arrays["partner_B"] = partner_B
    return prepare_inputs(arrays, state.world.device)


def choose_samples(world: World, augmentation: BatchAugmentation) -> tuple[np.ndarray, np.ndarray | None]:
    """Choose the samples of a global batch that this rank loads.

    Returns:
        Indices of samples: those of this rank's slice, then partners from other slices, each loaded once; and
        the position of each sample's partner among them, None if nothing is mixed.
    """
    size = len(augmentation.lam)
    local_slice = rank_slice(size, world)
    local = np.arange(size)[local_slice]
    partner, is_mixed = augmentation.partner[local_slice], augmentation.lam[local_slice] < 1
    if world.device.type == "cpu":
        if not is_mixed.any():
            return local, None
        samples = np.concatenate([local, np.setdiff1d(partner[is_mixed], local)])
    else:
        # Always the same number, as a CUDA graph requires.
        samples = local if world.size == 1 else np.concatenate([local, partner])
    position = np.zeros(size, np.int64)
    position[samples[::-1]] = np.arange(len(samples))[::-1]
    return samples, position[partner]


class Batch(NamedTuple):
    """Augmented clips of this rank's slice of a global batch, on its device."""

    mel_BMT: Tensor
    """Spectrograms in dB, with MixUp and masks `[shape=(B, n_mels, num_frames)]`."""
    target_BC: Tensor
    """Target probabilities `[shape=(B, C)]`."""
    texture_BMT: Tensor | None
    """The same clips as the head on texture statistics sees them, without either; None without that head."""
    texture_target_BC: Tensor
    """Target probabilities of these."""


def make_batch(state: TrainState, inputs: Inputs) -> Batch:
    """Load and augment this rank's slice of a global batch, on its device."""
    params = AugmentationTensors.select(inputs)
    row_BMT = state.loader.take(inputs)
    loaded_BMT = warp_and_gain(row_BMT, params, state.model.repeats_short_clips)
    if state.acoustics is not None:
        loaded_BMT = state.acoustics.add(loaded_BMT, params)
    if state.multi_label is None:
        loaded_BC = one_hot(inputs["label_B"], len(state.dataset.class_names))
    else:
        loaded_BC = inputs["target_BC"].float()
    # Partners from the slices of other ranks are loaded after this rank's own samples.
    own = slice(len(inputs["partner_B"]) if "partner_B" in inputs else len(row_BMT))
    texture_BMT = None
    if state.model.texture is not None:
        texture_BMT = texture_clips(
            row_BMT[own], loaded_BMT[own], inputs["is_plain_B"][own], state.model.repeats_short_clips
        )
    mixed_BMT, mixed_BC = loaded_BMT, loaded_BC
    if "partner_B" in inputs:
        mixed_BMT, mixed_BC = mix_partners(state, inputs["partner_B"], params.lam_B, loaded_BMT, loaded_BC)
    masked_BMT = mask(mixed_BMT, params[own], state.model.mel_mean_M)
    return Batch(masked_BMT, mixed_BC, texture_BMT, loaded_BC[own])


def mix_partners(
    state: TrainState, partner_B: Tensor, lam_L: Tensor, loaded_LMT: Tensor, loaded_LC: Tensor
) -> tuple[Tensor, Tensor]:
    """Mix the samples of this rank with their partners (MixUp).

    Args:
        state: training state.
        partner_B: position of each sample's partner among those that are loaded.
        lam_L: mixing weights of the loaded samples, this rank's own first.
        loaded_LMT: their spectrograms in dB.
        loaded_LC: their target probabilities.

    Returns:
        Spectrograms and target probabilities of this rank's samples.
    """
    if state.multi_label is not None:
        mix_mels, mix_labels = add_sounds, unite_targets
    else:
        mix_mels, mix_labels = (mix if state.config.mixup.domain == "db" else mix_powers), mix_targets
    own = slice(len(partner_B))
    mel_BMT = mix_mels(loaded_LMT[own], loaded_LMT[partner_B], lam_L[own])
    return mel_BMT, mix_labels(loaded_LC[own], loaded_LC[partner_B], lam_L[own])


def texture_clips(row_BMT: Tensor, augmented_BMT: Tensor, is_plain_B: Tensor, repeat: bool) -> Tensor:
    """Return clips whose texture is learned: some as they are in the dataset, the others augmented.

    Changes of speed and pitch interpolate between frames and bands, so that levels fluctuate less and tones
    are less distinct than in any clip that is predicted.

    Args:
        row_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.
        augmented_BMT: the same after augmentation.
        is_plain_B: which ones stay as they are, bool.
        repeat: repeat short clips instead of their padding, as the augmentation has done.
    """
    row_BMT = row_BMT.float()
    if repeat:
        row_BMT = repeat_short_clips(row_BMT)
    return torch.where(is_plain_B[:, None, None], row_BMT, augmented_BMT)


def compute_gradients(state: TrainState, inputs: Inputs, results: dict[str, Any]) -> None:
    """First part of a step: compute the gradients, and `loss`, this rank's contribution to the mean loss."""
    if state.gradients is not None:
        state.gradients.zero()
    batch = make_batch(state, inputs)
    with state.autocast():
        logits_BHC = state.wrapped_model(batch.mel_BMT, texture_BMT=batch.texture_BMT, separate_heads=True)
    # One of each head.
    targets = (batch.target_BC, batch.texture_target_BC)[: logits_BHC.shape[1]]
    losses = [
        row_losses(state, logits_BC, target_BC)
        for logits_BC, target_BC in zip(logits_BHC.float().unbind(dim=1), targets, strict=True)
    ]
    loss = torch.stack(losses).sum() * inputs["loss_scale"]
    state.scaler.scale(loss).backward()
    results["loss"] = loss.detach() / len(losses) / state.world.size


def row_losses(state: TrainState, logits_BC: Tensor, target_BC: Tensor) -> Tensor:
    """Return the loss of each row `[shape=(B,)]`; logits are float32."""
    if state.multi_label is not None:
        return state.multi_label.loss(logits_BC, target_BC, state.config)
    loss_B = F.cross_entropy(
        logits_BC, target_BC, label_smoothing=state.config.label_smoothing, reduction="none"
    )
    if state.class_weight_C is None:
        return loss_B
    # Of rows: weights of classes within the loss would multiply the smoothed mass of rare classes as well,
    # until it exceeds that of the true class.
    return loss_B * (target_BC @ state.class_weight_C)


def update_weights(state: TrainState, inputs: Inputs, results: dict[str, Any]) -> None:
    """Second part of a step: clip the averaged gradients, and update weights and EMA."""
    state.scaler.unscale_(state.optimizer)
    for parameters in state.model.head_parameters():
        # One by one: large gradients of a head must not shrink those of another.
        nn.utils.clip_grad_norm_(parameters, state.config.max_grad_norm)
    set_learning_rate(state.optimizer, inputs["learning_rate"])
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.gradients is None:
        state.optimizer.zero_grad(set_to_none=True)
    state.ema.update(inputs["ema_weight"])


def train_step(state: TrainState, inputs: PackedInputs | Inputs) -> Tensor:
    """Train on a global batch; return this rank's contribution to its mean loss, a scalar on the device.

    Nothing is read back from a GPU.
    """
    average = None if state.gradients is None else partial(state.gradients.average, state.world)
    parts = [
        StepPart(partial(compute_gradients, state), average),
        StepPart(partial(update_weights, state)),
    ]
    results = state.runner.run(inputs, parts)
    state.step += 1
    state.ema.step += 1
    return results["loss"]


def one_hot(label_B: Tensor, num_classes: int) -> Tensor:
    """Return labels as probabilities, float32 `[shape=(B, C)]`; unlike torch's, without a check of values."""
    return (label_B[:, None] == torch.arange(num_classes, device=label_B.device)).float()

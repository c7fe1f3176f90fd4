"""Differentiable augmentation of the discriminator's input, against overfitting to a small training set.

Real and generated clips are augmented in the same way and gradients pass through (Zhao et al. 2020,
DiffAugment). The augmentations do not leak into the generated clips as long as each is applied to a fraction
of the clips only. That probability adapts to the discriminator (Karras et al. 2020, ADA): it rises while the
discriminator overfits, and falls otherwise.

Shape suffixes: B batch, M mel bands, T frames.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from models.augmentation_params import AugmentationTensors, BatchAugmentation, sample_batch_augmentation
from models.batch_augment import mask, roll_and_gain
from models.settings import MAX_PROBABILITY, AdaConfig, GanAugmentConfig, MixUpConfig

# Number of real clips within which the probability can go from 0 to 1.
ADA_CLIPS = 40_000


def sample_augmentation(rng: np.random.Generator, count: int, config: GanAugmentConfig) -> BatchAugmentation:
    """Sample the parameters of `count` clips, as if each augmentation were applied to each clip."""
    return sample_batch_augmentation(rng, count, MixUpConfig(rate=0.0), config)


def sample_uniform(rng: np.random.Generator, count: int) -> np.ndarray:
    """Sample the uniform numbers by which `apply_with_probability` chooses, float64 `[shape=(4, count)]`."""
    return rng.random((4, count))


def apply_with_probability(
    params: AugmentationTensors, uniform_4B: Tensor, p: Tensor | float
) -> AugmentationTensors:
    """Keep each augmentation (shift, gain, time masks, frequency masks) of each clip with probability `p`.

    Args:
        params: parameters of all clips.
        uniform_4B: uniform numbers in [0, 1), from `sample_uniform`.
        p: probability; as a tensor on the device it may change without synchronization.
    """
    has_roll_B, has_gain_B, has_time_B, has_freq_B = (uniform_4B < p).unbind()
    return dataclasses.replace(
        params,
        shift_B=params.shift_B * has_roll_B,
        gain_B=params.gain_B * has_gain_B,
        time_end_BS=torch.where(has_time_B[:, None], params.time_end_BS, params.time_start_BS),
        freq_end_BS=torch.where(has_freq_B[:, None], params.freq_end_BS, params.freq_start_BS),
    )


def augment(mel_BMT: Tensor, params: AugmentationTensors, fill_M: Tensor) -> Tensor:
    """Return augmented spectrograms in dB `[shape=(B, n_mels, num_frames)]`; masked values are `fill_M`."""
    return mask(roll_and_gain(mel_BMT, params.shift_B, params.gain_B), params, fill_M)


def update_ada_probability(p: Tensor, ada_rt: Tensor, clips: int, config: AdaConfig) -> Tensor:
    """Return the augmentation probability after `clips` more real clips, without synchronization.

    Args:
        p: current probability, a scalar.
        ada_rt: mean sign of the discriminator's outputs on these clips, in [-1, 1], a scalar.
        clips: number of real clips since the last update, summed over workers.
        config: target of `ada_rt`, and whether `p` adapts.
    """
    if not config.adapt:
        return p
    step = clips / ADA_CLIPS
    return (p + torch.where(ada_rt > config.target, step, -step)).clamp(0.0, MAX_PROBABILITY)

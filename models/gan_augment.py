"""Differentiable augmentation of what the discriminator sees, so that it cannot learn a small set of real clips by heart.

Real and drawn clips are changed alike and gradients pass through, so the generator does not learn to draw the changes (Zhao et
al. 2020, DiffAugment), as long as each happens to some of the clips only. How many adapts to the discriminator (Karras et al.
2020, ADA): more when it is sure of the real clips, fewer when it is not.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from pydantic import Field
from torch import Tensor

from models.batch_augment import (
    BatchAugmentation,
    MixUpConfig,
    SpecAugmentConfig,
    mask,
    roll_and_gain,
    sample_batch_augmentation,
)
from models.config import Config

# The chance goes from 0 to 1 within so many clips at the fastest.
ADA_CLIPS = 40_000
# Above this the generator can't tell the changes from the clips any more (Karras et al. 2020, figure 4).
MAX_PROBABILITY = 0.8


class GanAugmentConfig(SpecAugmentConfig):
    """What may happen to a clip before the discriminator sees it."""

    time_masks: int = Field(1, ge=0, le=20)
    """Stretches of time that are blanked."""
    time_width: float = Field(0.25, ge=0, le=1)
    """Their greatest width, as part of the clip."""
    freq_masks: int = Field(1, ge=0, le=20)
    """Bands of frequency that are blanked."""
    freq_width: float = Field(0.25, ge=0, le=1)
    """Their greatest width, as part of the mel bands."""
    roll: float = Field(0.1, ge=0, le=0.5)
    """Greatest turn in time, as part of the clip, to either side; what leaves one end enters the other."""
    gain_db: float = Field(6.0, ge=0, le=40)
    """Greatest change of level, in dB, up or down."""


class AdaConfig(Config):
    """How often each change happens."""

    adapt: bool = True
    """Adapt the chance to how sure the discriminator is; otherwise it stays."""
    p: float = Field(0.2, ge=0, le=MAX_PROBABILITY)
    """Chance of each change, for each clip; where it adapts, the one at the start."""
    target: float = Field(0.6, gt=-1, lt=1)
    """Wanted share of real clips told from drawn ones, less the share of those not told."""


def sample_augmentation(
    rng: np.random.Generator, count: int, config: GanAugmentConfig, chance: float
) -> BatchAugmentation:
    """Draws what happens to each of `count` clips; each change happens to each clip with `chance`."""
    draw = sample_batch_augmentation(rng, count, MixUpConfig(rate=0.0), config)
    happens = rng.random((4, count)) < chance
    return dataclasses.replace(
        draw,
        roll=draw.roll * happens[0],
        gain_db=draw.gain_db * happens[1],
        time_width=draw.time_width * happens[2][:, None],
        freq_width=draw.freq_width * happens[3][:, None],
    )


def augment(mel_BMT: Tensor, draw: BatchAugmentation, fill_M: Tensor) -> Tensor:
    """The changed spectrograms, in dB `[shape=(B, n_mels, num_frames)]`; blanks hold `fill_M`."""
    return mask(roll_and_gain(mel_BMT, draw.roll, draw.gain_db), draw, fill_M)


def update_ada_probability(chance: float, ada_rt: float, clips: int, config: AdaConfig) -> float:
    """The chance after `clips` more real clips, of which the discriminator told `ada_rt` in [-1, 1] (share told less share not)."""
    if not config.adapt:
        return chance
    step = clips / ADA_CLIPS
    return min(MAX_PROBABILITY, max(0.0, chance + (step if ada_rt > config.target else -step)))

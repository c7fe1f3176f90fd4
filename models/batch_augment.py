"""Augmentation of a batch of spectrograms in training: MixUp, SpecAugment, a turn in time and a change of level.

What happens to each sample is drawn first, for the whole batch over all workers, and applied after. So the result does
not depend on how many workers share the batch: each draws the same and applies its own part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.config import Config


class MixUpConfig(Config):
    """MixUp (Zhang et al. 2018): a sample and its label, blended with another."""

    rate: float = Field(0.5, ge=0, le=1)
    """Part of the samples that are blended."""
    alpha: float = Field(0.3, gt=0, le=10)
    """Of the Beta(alpha, alpha) that the share is drawn from: small keeps one sample dominant, 1 is uniform."""


class SpecAugmentConfig(Config):
    """SpecAugment (Park et al. 2019) and its kin; every size is scaled by the augmentation strength."""

    time_masks: int = Field(2, ge=0, le=20)
    """Stretches of time that are blanked."""
    time_width: float = Field(0.12, ge=0, le=1)
    """Their greatest width, as part of the clip."""
    freq_masks: int = Field(2, ge=0, le=20)
    """Bands of frequency that are blanked."""
    freq_width: float = Field(0.12, ge=0, le=1)
    """Their greatest width, as part of the mel bands."""
    roll: float = Field(0.5, ge=0, le=0.5)
    """Greatest turn in time, as part of the clip, to either side; what leaves one end enters the other."""
    gain_db: float = Field(6.0, ge=0, le=40)
    """Greatest change of level, in dB, up or down."""


@dataclass(frozen=True)
class BatchAugmentation:
    """What is to happen to each of B samples; all arrays have B as their first axis."""

    partner: np.ndarray  # index into the batch
    share: np.ndarray  # of the sample itself; 1 leaves it alone
    time_start: np.ndarray  # (B, time_masks), as part of the frames
    time_width: np.ndarray
    freq_start: np.ndarray  # (B, freq_masks), as part of the mel bands
    freq_width: np.ndarray
    roll: np.ndarray  # as part of the frames
    gain_db: np.ndarray

    def __getitem__(self, part: slice) -> BatchAugmentation:
        return BatchAugmentation(**{name: values[part] for name, values in vars(self).items()})


def sample_batch_augmentation(
    rng: np.random.Generator,
    batch_size: int,
    mixup: MixUpConfig,
    spec: SpecAugmentConfig,
    strength: float = 1.0,
) -> BatchAugmentation:
    """Draws for a whole batch; `strength` in [0, 1] scales all of SpecAugment."""
    mixed = rng.random(batch_size) < mixup.rate
    share = rng.beta(mixup.alpha, mixup.alpha, batch_size)
    time_width = rng.random((batch_size, spec.time_masks)) * spec.time_width * strength
    freq_width = rng.random((batch_size, spec.freq_masks)) * spec.freq_width * strength
    return BatchAugmentation(
        partner=rng.permutation(batch_size),
        # The larger share stays with the sample: the same mixture has then one name only.
        share=np.where(mixed, np.maximum(share, 1 - share), 1.0),
        time_start=rng.random(time_width.shape) * (1 - time_width),
        time_width=time_width,
        freq_start=rng.random(freq_width.shape) * (1 - freq_width),
        freq_width=freq_width,
        roll=rng.uniform(-1, 1, batch_size) * spec.roll * strength,
        gain_db=rng.uniform(-1, 1, batch_size) * spec.gain_db * strength,
    )


def roll_and_gain(mel_BMT: Tensor, roll: np.ndarray, gain_db: np.ndarray) -> Tensor:
    """Turns each spectrogram in time and changes its level; float32, in dB `[shape=(B, n_mels, num_frames)]`."""
    frames = mel_BMT.shape[2]
    turn = torch.from_numpy(np.round(roll * frames).astype(np.int64)).to(mel_BMT.device)
    index_BT = (torch.arange(frames, device=mel_BMT.device) - turn[:, None]) % frames
    rolled = mel_BMT.gather(2, index_BT[:, None, :].expand(-1, mel_BMT.shape[1], -1))
    return rolled.float() + _to_column(gain_db, mel_BMT.device)[:, None, None]


def mix(mel_BMT: Tensor, partner_BMT: Tensor, share: np.ndarray) -> Tensor:
    """Blends each spectrogram with its partner, in dB."""
    return torch.lerp(partner_BMT, mel_BMT, _to_column(share, mel_BMT.device)[:, None, None])


def mix_targets(target_BC: Tensor, partner_BC: Tensor, share: np.ndarray) -> Tensor:
    """Blends the labels, given as probabilities `[shape=(B, C)]`, in the same shares."""
    return torch.lerp(partner_BC, target_BC, _to_column(share, target_BC.device)[:, None])


def mask(mel_BMT: Tensor, draw: BatchAugmentation, fill_M: Tensor) -> Tensor:
    """Blanks stretches of time and bands of frequency with each band's mean over the training set, in dB."""
    hidden_BT = _span_mask(draw.time_start, draw.time_width, mel_BMT.shape[2], mel_BMT.device)
    hidden_BM = _span_mask(draw.freq_start, draw.freq_width, mel_BMT.shape[1], mel_BMT.device)
    return torch.where(hidden_BT[:, None, :] | hidden_BM[:, :, None], fill_M[:, None], mel_BMT)


def _span_mask(start: np.ndarray, width: np.ndarray, size: int, device: torch.device) -> Tensor:
    """Which of `size` places lie in any span of each sample `[shape=(B, size)]`, bool."""
    place = np.arange(size)
    first = np.round(start * size)[:, :, None]
    inside = (place >= first) & (place < first + np.round(width * size)[:, :, None])
    return torch.from_numpy(inside.any(axis=1)).to(device)


def _to_column(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)

"""Batch augmentation of spectrograms in training: MixUp, SpecAugment, shift and stretch, gain.

The parameters are sampled by `augmentation_params`. `warp_and_gain` (or `roll_and_gain` for a GAN), `mix` and
`mask` apply them on the device of the spectrograms, without any other transfer or synchronization.

Shape suffixes: B batch, M mel bands, T frames, S masks, P points of an equalizer, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.augmentation_params import AugmentationTensors
from models.repetition import sounding_frames, take_frames

# How much quieter the partner of a sample is at most where their sounds are added.
MAX_QUIETER_DB = 10.0
_DB_PER_NEPER = 10 / math.log(10)


def roll_and_gain(mel_BMT: Tensor, shift_B: Tensor, gain_B: Tensor) -> Tensor:
    """Shift each spectrogram circularly in time and change its gain.

    Args:
        mel_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.
        shift_B: shift in frames, int64; positive is later.
        gain_B: gain change in dB, float32.

    Returns:
        Spectrograms in dB, float32 `[shape=(B, n_mels, num_frames)]`.
    """
    num_frames = mel_BMT.shape[2]
    index_BT = (torch.arange(num_frames, device=mel_BMT.device) - shift_B[:, None]) % num_frames
    return take_frames(mel_BMT, index_BT).float() + gain_B[:, None, None]


def warp_and_gain(mel_BMT: Tensor, params: AugmentationTensors, repeat: bool) -> Tensor:
    """Shift each spectrogram circularly in time, change its speed, shift its mel bands, change their gains.

    Values between frames and between bands are interpolated linearly; beyond the outermost bands they are
    those of the outermost bands.

    Args:
        mel_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.
        params: parameters.
        repeat: repeat short clips instead of their padding, as `repeat_short_clips`.

    Returns:
        Spectrograms in dB, float32 `[shape=(B, n_mels, num_frames)]`.
    """
    mel_BMT = mel_BMT.float()
    _, n_mels, num_frames = mel_BMT.shape
    period_B = sounding_frames(mel_BMT) if repeat else torch.full_like(params.shift_B, num_frames)
    frame_BT = torch.arange(num_frames, device=mel_BMT.device) - params.shift_B[:, None]
    position_BT = frame_BT * params.speed_B[:, None] % period_B[:, None]
    first_BT = position_BT.long()
    fraction_BT = position_BT - first_BT
    index_BT = first_BT % period_B[:, None]  # rounding may have reached the period
    next_BT = (first_BT + 1) % period_B[:, None]
    warped_BMT = torch.lerp(
        take_frames(mel_BMT, index_BT), take_frames(mel_BMT, next_BT), fraction_BT[:, None, :]
    )
    band_BM = torch.arange(n_mels, device=mel_BMT.device) - params.freq_shift_B[:, None]
    band_BM = band_BM.clamp(0, n_mels - 1)
    lower_BM = band_BM.long()
    upper_BM = (lower_BM + 1).clamp(max=n_mels - 1)
    shifted_BMT = torch.lerp(
        _take_bands(warped_BMT, lower_BM), _take_bands(warped_BMT, upper_BM), (band_BM - lower_BM)[:, :, None]
    )
    band_gain_BM = _interpolate(params.band_gain_BP, n_mels)
    return shifted_BMT + (params.gain_B[:, None] + band_gain_BM)[:, :, None]


def _interpolate(value_BP: Tensor, size: int) -> Tensor:
    """Interpolate evenly spread values linearly to `size` values, float32 `[shape=(B, size)]`."""
    points = value_BP.shape[1]
    position = torch.arange(size, device=value_BP.device) * ((points - 1) / max(size - 1, 1))
    point_P1 = torch.arange(points, device=value_BP.device)[:, None]
    return value_BP @ (1 - (position - point_P1).abs()).clamp(min=0)


def _take_bands(mel_BMT: Tensor, index_BM: Tensor) -> Tensor:
    return mel_BMT.gather(1, index_BM[:, :, None].expand(-1, -1, mel_BMT.shape[2]))


def mix(mel_BMT: Tensor, partner_BMT: Tensor, lam_B: Tensor) -> Tensor:
    """Interpolate each spectrogram with its partner, in dB: lam * mel + (1 - lam) * partner."""
    return torch.lerp(partner_BMT, mel_BMT, lam_B[:, None, None])


def mix_powers(mel_BMT: Tensor, partner_BMT: Tensor, lam_B: Tensor) -> Tensor:
    """Mix each spectrogram with its partner as their sounds mix in air: their powers add up.

    Between-class learning (Tokozume et al. 2018): the partner is brought to the level of the sample, which is
    here the mean of its values in dB, and the amplitudes of both are weighted by lam and 1 - lam, at constant
    power of the mixture. A sample with lam = 1 is not mixed.
    """
    level_B = mel_BMT.mean(dim=(1, 2)) - partner_BMT.mean(dim=(1, 2))
    weight_B = lam_B.square() / (lam_B.square() + (1 - lam_B).square())
    own_BMT = mel_BMT / _DB_PER_NEPER + weight_B.log()[:, None, None]
    other_BMT = (partner_BMT + level_B[:, None, None]) / _DB_PER_NEPER
    # log(0) for lam = 1: the other sound is not heard.
    mixed_BMT = torch.logaddexp(own_BMT, other_BMT + (1 - weight_B).log()[:, None, None])
    return torch.where(lam_B[:, None, None] < 1, _DB_PER_NEPER * mixed_BMT, mel_BMT)


def mix_targets(target_BC: Tensor, partner_BC: Tensor, lam_B: Tensor) -> Tensor:
    """Interpolate labels, given as class probabilities `[shape=(B, C)]`, with the same weights as `mix`."""
    return torch.lerp(partner_BC, target_BC, lam_B[:, None])


def add_sounds(mel_BMT: Tensor, partner_BMT: Tensor, lam_B: Tensor) -> Tensor:
    """Return what both sound like together, in dB: their powers add up.

    The partner is at the same level for lam = 1/2, and `MAX_QUIETER_DB` dB quieter as lam approaches 1, so
    that it remains audible; a sample with lam = 1 is not mixed.
    """
    gain_B = -MAX_QUIETER_DB * (2 * lam_B - 1)
    added_BMT = _DB_PER_NEPER * torch.logaddexp(
        mel_BMT / _DB_PER_NEPER, (partner_BMT + gain_B[:, None, None]) / _DB_PER_NEPER
    )
    return torch.where(lam_B[:, None, None] < 1, added_BMT, mel_BMT)


def unite_targets(target_BC: Tensor, partner_BC: Tensor, lam_B: Tensor) -> Tensor:
    """Return the classes of samples mixed by `add_sounds`, those of both `[shape=(B, C)]`.

    Not interpolated as in `mix_targets`: what can be heard is present, however loud (BirdNET, Kahl et al.
    2021; Perch, Ghani et al. 2023).
    """
    return torch.where(lam_B[:, None] < 1, torch.maximum(target_BC, partner_BC), target_BC)


def mask(mel_BMT: Tensor, params: AugmentationTensors, fill_M: Tensor) -> Tensor:
    """Replace masked frames and mel bands by `fill_M`, the mean of each band over the training data in dB."""
    masked_BT = _span_mask(params.time_start_BS, params.time_end_BS, mel_BMT.shape[2])
    masked_BM = _span_mask(params.freq_start_BS, params.freq_end_BS, mel_BMT.shape[1])
    return torch.where(masked_BT[:, None, :] | masked_BM[:, :, None], fill_M[:, None], mel_BMT)


def _span_mask(start_BS: Tensor, end_BS: Tensor, size: int) -> Tensor:
    """Return which of `size` positions are inside any span of a sample, bool `[shape=(B, size)]`."""
    position = torch.arange(size, device=start_BS.device)
    inside = (position >= start_BS[:, :, None]) & (position < end_BS[:, :, None])
    return inside.any(dim=1)

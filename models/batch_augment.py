"""Batch augmentation of spectrograms in training: MixUp, SpecAugment, shift and stretch, gain.

`sample_batch_augmentation` samples the parameters for the whole global batch, on the host. Every rank samples
the same parameters and applies its slice, so the result does not depend on the number of workers.
`BatchAugmentation.arrays` converts them to frames and bands; `warp_and_gain` (or `roll_and_gain` for a GAN),
`mix` and `mask` apply these on the device of the spectrograms, without any other transfer or synchronization.

Shape suffixes: B batch, M mel bands, T frames, S masks, P points of an equalizer, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.repetition import sounding_frames, take_frames
from models.settings import MaskConfig, MixUpConfig, SpecAugmentConfig

# How much quieter the partner of a sample is at most where their sounds are added.
MAX_QUIETER_DB = 10.0
# Frequencies at which the gain of a random equalizer is sampled; between them it is interpolated.
EQUALIZER_POINTS = 5
# Ranges of rooms and noise, the same as those of waveform augmentation (pipeline/audio/augment.py).
REVERB_S = (0.1, 1.5)
REVERB_WET = (0.1, 0.8)
SNR_DB = (5.0, 40.0)
MAX_NOISE_SLOPE = 2.0
_DB_PER_NEPER = 10 / math.log(10)


@dataclass(frozen=True)
class BatchAugmentation:
    """Sampled augmentation parameters of a batch; the first axis of every array is the batch."""

    partner: np.ndarray
    """Index of the sample to mix with `[shape=(B,)]`."""
    lam: np.ndarray
    """MixUp weight (lambda) of the sample itself, in [0.5, 1]; 1 does not mix `[shape=(B,)]`."""
    time_start: np.ndarray
    """First frame of each time mask, as a fraction of the frames `[shape=(B, time_masks)]`."""
    time_width: np.ndarray
    """Width of each time mask, as a fraction of the frames `[shape=(B, time_masks)]`."""
    freq_start: np.ndarray
    """First band of each frequency mask, as a fraction of the mel bands `[shape=(B, freq_masks)]`."""
    freq_width: np.ndarray
    """Width of each frequency mask, as a fraction of the mel bands `[shape=(B, freq_masks)]`."""
    roll: np.ndarray
    """Circular time shift, as a fraction of the frames `[shape=(B,)]`."""
    gain_db: np.ndarray
    """Gain change in dB `[shape=(B,)]`."""
    speed: np.ndarray
    """Speed as a factor, 1 is that of the clip `[shape=(B,)]`."""
    freq_shift: np.ndarray
    """Shift in frequency, as a fraction of the mel bands; positive is up `[shape=(B,)]`."""
    band_gain_db: np.ndarray
    """Gain change in dB at frequencies evenly spread from the lowest to the highest mel band
    `[shape=(B, EQUALIZER_POINTS)]`."""
    reverb_s: np.ndarray
    """Time in seconds in which the reverberation decays by 60 dB `[shape=(B,)]`."""
    reverb_wet: np.ndarray
    """Amplitude of the reverberation, that of the sound itself is 1 - wet; 0 is none `[shape=(B,)]`."""
    snr_db: np.ndarray
    """Signal-to-noise ratio in dB; infinite without noise `[shape=(B,)]`."""
    noise_slope: np.ndarray
    """Exponent with which the power of the noise falls with frequency: 0 white, 1 pink, 2 brown
    `[shape=(B,)]`."""
    noise_start: np.ndarray
    """Where the noise begins in the stored one, as a fraction of its latest start `[shape=(B,)]`."""

    def __getitem__(self, index: slice | np.ndarray) -> BatchAugmentation:
        return BatchAugmentation(**{name: values[index] for name, values in vars(self).items()})

    def arrays(self, n_mels: int, num_frames: int) -> dict[str, np.ndarray]:
        """Return the fields of `AugmentationTensors` for spectrograms of a size, as arrays on the host."""
        time_start, time_end = _span_limits(self.time_start, self.time_width, num_frames)
        freq_start, freq_end = _span_limits(self.freq_start, self.freq_width, n_mels)
        return {
            "shift_B": np.round(self.roll * num_frames).astype(np.int64),
            "gain_B": self.gain_db.astype(np.float32),
            "speed_B": self.speed.astype(np.float32),
            "freq_shift_B": (self.freq_shift * n_mels).astype(np.float32),
            "band_gain_BP": self.band_gain_db.astype(np.float32),
            "lam_B": self.lam.astype(np.float32),
            "reverb_s_B": self.reverb_s.astype(np.float32),
            "reverb_wet_B": self.reverb_wet.astype(np.float32),
            "snr_db_B": self.snr_db.astype(np.float32),
            "noise_slope_B": self.noise_slope.astype(np.float32),
            "noise_start_B": self.noise_start.astype(np.float32),
            "time_start_BS": time_start,
            "time_end_BS": time_end,
            "freq_start_BS": freq_start,
            "freq_end_BS": freq_end,
        }


@dataclass(frozen=True)
class AugmentationTensors:
    """Augmentation parameters of a batch in whole frames and bands, on the device of the spectrograms."""

    shift_B: Tensor
    """Circular time shift in frames, int64; positive is later."""
    gain_B: Tensor
    """Gain change in dB, float32."""
    speed_B: Tensor
    """Speed as a factor, float32."""
    freq_shift_B: Tensor
    """Shift in mel bands, not necessarily whole ones, float32; positive is up."""
    band_gain_BP: Tensor
    """Gain change in dB at P frequencies evenly spread over the mel bands, besides that of the whole
    spectrogram, float32."""
    lam_B: Tensor
    """MixUp weight (lambda) of the sample itself, float32."""
    reverb_s_B: Tensor
    """Time in seconds in which the reverberation decays by 60 dB, float32."""
    reverb_wet_B: Tensor
    """Amplitude of the reverberation, that of the sound itself is 1 - wet; 0 is none, float32."""
    snr_db_B: Tensor
    """Signal-to-noise ratio in dB; infinite without noise, float32."""
    noise_slope_B: Tensor
    """Exponent with which the power of the noise falls with frequency, float32."""
    noise_start_B: Tensor
    """Where the noise begins in the stored one, as a fraction of its latest start, float32."""
    time_start_BS: Tensor
    """First frame of each time mask, int32."""
    time_end_BS: Tensor
    """Frame after each time mask, int32."""
    freq_start_BS: Tensor
    """First band of each frequency mask, int32."""
    freq_end_BS: Tensor
    """Band after each frequency mask, int32."""

    def __getitem__(self, index: slice | Tensor) -> AugmentationTensors:
        return AugmentationTensors(**{name: values[index] for name, values in vars(self).items()})

    @staticmethod
    def select(inputs: Mapping[str, Any]) -> AugmentationTensors:
        """Take the parameters from the inputs of a training step, which have the same names."""
        return AugmentationTensors(
            **{field.name: inputs[field.name] for field in fields(AugmentationTensors)}
        )


def sample_batch_augmentation(
    rng: np.random.Generator,
    batch_size: int,
    mixup: MixUpConfig,
    spec: MaskConfig,
    strength: float = 1.0,
) -> BatchAugmentation:
    """Sample the augmentation parameters of a whole batch; `strength` in [0, 1] scales all of `spec`."""
    max_stretch, max_freq_shift, max_band_gain_db = (
        (spec.time_stretch, spec.freq_shift, spec.band_gain_db)
        if isinstance(spec, SpecAugmentConfig)
        else (0.0, 0.0, 0.0)
    )
    mixed = rng.random(batch_size) < mixup.rate
    lam = rng.beta(mixup.alpha, mixup.alpha, batch_size)
    time_width = rng.random((batch_size, spec.time_masks)) * spec.time_width * strength
    freq_width = rng.random((batch_size, spec.freq_masks)) * spec.freq_width * strength
    return BatchAugmentation(
        partner=rng.permutation(batch_size),
        # The sample itself dominates: (a, b, lam) and (b, a, 1 - lam) are the same mixture.
        lam=np.where(mixed, np.maximum(lam, 1 - lam), 1.0),
        time_start=rng.random(time_width.shape) * (1 - time_width),
        time_width=time_width,
        freq_start=rng.random(freq_width.shape) * (1 - freq_width),
        freq_width=freq_width,
        roll=rng.uniform(-1, 1, batch_size) * spec.roll * strength,
        gain_db=rng.uniform(-1, 1, batch_size) * spec.gain_db * strength,
        speed=(1 - max_stretch * strength) ** rng.uniform(-1, 1, batch_size),
        freq_shift=rng.uniform(-1, 1, batch_size) * max_freq_shift * strength,
        band_gain_db=rng.uniform(-1, 1, (batch_size, EQUALIZER_POINTS)) * max_band_gain_db * strength,
        **_sample_acoustics(rng, batch_size, spec, strength)
        if isinstance(spec, SpecAugmentConfig) and spec.has_acoustics
        else _no_acoustics(batch_size),
    )


def _no_acoustics(size: int) -> dict[str, np.ndarray]:
    """Return the parameters of rooms and noise of clips without them."""
    zeros = np.zeros(size)
    return {
        "reverb_s": np.ones(size),
        "reverb_wet": zeros,
        "snr_db": np.full(size, np.inf),
        "noise_slope": zeros,
        "noise_start": zeros,
    }


def _sample_acoustics(
    rng: np.random.Generator, size: int, spec: SpecAugmentConfig, strength: float
) -> dict[str, np.ndarray]:
    """Sample the parameters of rooms and noise, whose probabilities `strength` scales."""
    reverberates, is_noisy = (rng.random(size) < rate * strength for rate in (spec.reverb, spec.noise))
    room, quietness = rng.random(size), rng.random(size)
    return {
        "reverb_s": REVERB_S[0] + (REVERB_S[1] - REVERB_S[0]) * room,
        "reverb_wet": np.where(reverberates, REVERB_WET[0] + (REVERB_WET[1] - REVERB_WET[0]) * room, 0.0),
        "snr_db": np.where(is_noisy, SNR_DB[0] + (SNR_DB[1] - SNR_DB[0]) * quietness, np.inf),
        "noise_slope": rng.uniform(0, MAX_NOISE_SLOPE, size),
        "noise_start": rng.random(size),
    }


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


def _span_limits(start: np.ndarray, width: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first position of each span of `size` positions, and the one after it, int32.

    `start` and `width` are fractions of `size` `[shape=(B, S)]`, each rounded to whole positions.
    """
    first = np.round(start * size)
    return first.astype(np.int32), (first + np.round(width * size)).astype(np.int32)


def _span_mask(start_BS: Tensor, end_BS: Tensor, size: int) -> Tensor:
    """Return which of `size` positions are inside any span of a sample, bool `[shape=(B, size)]`."""
    position = torch.arange(size, device=start_BS.device)
    inside = (position >= start_BS[:, :, None]) & (position < end_BS[:, :, None])
    return inside.any(dim=1)

"""Parameters of batch augmentation, sampled for each clip of a batch.

`sample_batch_augmentation` samples them for the whole global batch, on the host. Every rank samples the same
parameters and applies its slice, so the result does not depend on the number of workers.
`BatchAugmentation.arrays` converts them to frames and bands, for the functions of `batch_augment`.

Shape suffixes: B batch, S masks, P points of an equalizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from models.settings import MaskConfig, MixUpConfig, SpecAugmentConfig

# Frequencies at which the gain of a random equalizer is sampled; between them it is interpolated.
EQUALIZER_POINTS = 5
# Ranges of rooms and noise, the same as those of waveform augmentation (pipeline/audio/augment.py).
REVERB_S = (0.1, 1.5)
REVERB_WET = (0.1, 0.8)
SNR_DB = (5.0, 40.0)
MAX_NOISE_SLOPE = 2.0


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


def _span_limits(start: np.ndarray, width: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first position of each span of `size` positions, and the one after it, int32.

    `start` and `width` are fractions of `size` `[shape=(B, S)]`, each rounded to whole positions.
    """
    first = np.round(start * size)
    return first.astype(np.int32), (first + np.round(width * size)).astype(np.int32)

"""Peak and loudness of synthesized clips."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Maximum sample magnitude: below full scale, as a lossy encoder or a resampler may overshoot.
MAX_PEAK = 0.97
# Speech level (ITU-T P.56) in dB RMS, and the window in which it is measured, in seconds.
TARGET_RMS_DB = -26.0
LOUDNESS_WINDOW_S = 0.4
# Peak below which a clip is silent: the quantization step of 16-bit audio.
SILENCE_PEAK = 2.0**-15
# Far below the energy of any sound.
TINY = 1e-20


def normalize_loudness(samples_BN: Tensor, sample_rate: int) -> Tensor:
    """Normalize the loudness of clips `[shape=(B, num_samples)]`; returns new samples.

    A clip whose loudest 0.4 s are below -26 dB RMS is amplified to that level, limited to a peak of 0.97. A
    clip with a higher peak is attenuated to 0.97. Other clips are unchanged, as are silent ones, whose peak
    is below 2^-15, the quantization step of 16-bit audio.
    """
    peak_B = samples_BN.abs().amax(dim=1)
    amplification_B = (
        10 ** (TARGET_RMS_DB / 20) / max_power(samples_BN, sample_rate).clamp_min(TINY).sqrt()
    ).clamp_min(1.0)
    gain_B = torch.minimum(amplification_B, MAX_PEAK / peak_B.clamp_min(TINY))
    return samples_BN * torch.where(peak_B < SILENCE_PEAK, 1.0, gain_B)[:, None]


def max_power(samples_BN: Tensor, sample_rate: float) -> Tensor:
    """Return the mean square of the loudest 0.4 s of clips `[shape=(B, num_samples)]`, `[shape=(B,)]`."""
    window = min(samples_BN.shape[1], round(LOUDNESS_WINDOW_S * sample_rate))
    return F.avg_pool1d(samples_BN.square()[:, None], window, max(1, window // 4))[:, 0].amax(dim=1)

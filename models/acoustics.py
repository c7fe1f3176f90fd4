"""Rooms and background noise, added to spectrograms in training.

Waveform augmentation does the same to the sound itself, but once for each stored copy. Here every batch has
other rooms and other noise, for a small part of the time of a training step.

Shape suffixes: B batch, M mel bands, T frames, L frames of the stored noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.augmentation_params import REVERB_S, AugmentationTensors

_NEPER_PER_DB = math.log(10) / 10
# Natural logarithm of 60 dB, by which a reverberation decays within its time (RT60).
_DECAY_NEPER = 60 * _NEPER_PER_DB


@dataclass(frozen=True)
class Acoustics:
    """What rooms and noise need to know of the spectrograms, on their device."""

    hop_s: float
    """Hop in seconds."""
    frequency_M: Tensor
    """Center frequency of each band in kHz."""
    bandwidth_M: Tensor
    """Width of each band; bands have the mean power of their frequencies, so that a clip has the power of
    its bands times their widths."""
    white_noise_ML: Tensor
    """Power spectrogram of white noise of mean power 1, at least as long as a clip."""

    def add(self, mel_BMT: Tensor, params: AugmentationTensors) -> Tensor:
        """Add reverberation, then noise, to the spectrograms that have any.

        Args:
            mel_BMT: spectrograms in dB, float32 `[shape=(B, n_mels, num_frames)]`.
            params: parameters.
        """
        if mel_BMT.device.type != "cpu":
            return self._add(mel_BMT, params)
        # A CPU computes only what changes; a GPU would have to be waited for.
        changed = torch.nonzero((params.reverb_wet_B > 0) | params.snr_db_B.isfinite())[:, 0]
        if not len(changed):
            return mel_BMT
        added_BMT = self._add(mel_BMT[changed], params[changed])
        return mel_BMT.index_copy(0, changed, added_BMT)

    def _add(self, mel_BMT: Tensor, params: AugmentationTensors) -> Tensor:
        power_BMT = torch.exp(mel_BMT * _NEPER_PER_DB)
        power_BMT = reverberate(power_BMT, params.reverb_s_B, params.reverb_wet_B, self.hop_s)
        power_BMT += self._noise(power_BMT, params)
        return power_BMT.log_().div_(_NEPER_PER_DB)

    def _noise(self, power_BMT: Tensor, params: AugmentationTensors) -> Tensor:
        """Return the power of the noise of each clip, at its signal-to-noise ratio."""
        num_frames = power_BMT.shape[2]
        density_BM = self.frequency_M ** -params.noise_slope_B[:, None]
        clip_B = power_BMT.mean(dim=2) @ self.bandwidth_M
        scale_B = clip_B / (density_BM @ self.bandwidth_M) * torch.exp(-_NEPER_PER_DB * params.snr_db_B)
        latest = self.white_noise_ML.shape[1] - num_frames
        start_B = (params.noise_start_B * latest).long()
        index_BT = start_B[:, None] + torch.arange(num_frames, device=start_B.device)
        noise_MBT = self.white_noise_ML[:, index_BT]
        return noise_MBT.transpose(0, 1) * (density_BM * scale_B[:, None])[:, :, None]


def reverberate(power_BMT: Tensor, reverb_s_B: Tensor, wet_B: Tensor, hop_s: float) -> Tensor:
    """Add the reverberation of a room, whose response is exponentially decaying noise (Moorer 1979).

    Powers of sound and reverberation add up, as the phases of the response are random.

    Args:
        power_BMT: power spectrograms `[shape=(B, n_mels, num_frames)]`.
        reverb_s_B: time in seconds in which the reverberation decays by 60 dB, at most `REVERB_S[1]`.
        wet_B: amplitude of the reverberation; that of the sound itself is 1 - wet.
        hop_s: hop in seconds.
    """
    factor_B11 = torch.exp(-_DECAY_NEPER * hop_s / reverb_s_B)[:, None, None]
    tail_BMT = power_BMT * (1 - factor_B11)
    # The recursion y(t) = x(t) + factor y(t - 1), in a few steps that double what each value has summed up.
    shift = 1
    while shift < min(REVERB_S[1] / hop_s, power_BMT.shape[2]):
        delayed_BMT = tail_BMT[:, :, :-shift] * factor_B11**shift
        tail_BMT[:, :, shift:] += delayed_BMT
        shift *= 2
    wet_B11 = wet_B[:, None, None].square()
    dry_B11 = (1 - wet_B[:, None, None]).square()
    total_B11 = wet_B11 + dry_B11
    return power_BMT * (dry_B11 / total_B11) + tail_BMT * (wet_B11 / total_B11)

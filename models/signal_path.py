"""From samples to spectrograms inside a network, for models that run without melray.

Equal to `trim_silence` and `fix_length` of `pipeline/audio/waveform.py` and `LogMel` of
`pipeline/audio/mel.py`, within the rounding of single precision. Only operations that every runtime has: the
Fourier transform is two matrix products, which on a CPU take half the time of ONNX's STFT, and a tenth of one
product with the whole transform.

Shape suffixes: B batch, N samples of a sound, L samples of a clip, M mel bands, T frames, S samples of a
window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TrimSettings:
    """How silence at both ends is recognized: frames of four hops below the loudest one."""

    top_db: float
    hop: int
    min_power: float


@dataclass(frozen=True)
class SignalSettings:
    """Settings of a signal path."""

    num_samples: int
    """Samples of a clip."""
    hop_length: int
    """Samples from one frame to the next."""
    window_S: np.ndarray
    """Window of the Fourier transform, float64."""
    bank_MF: np.ndarray
    """Weight of each of the F = 1 + S / 2 frequencies in each mel band, float32."""
    min_power: float
    """Minimum power, below which values are clipped."""
    top_db: float | None
    """Dynamic range below the maximum of each clip in dB; None keeps everything."""
    trim: TrimSettings | None
    """None does not trim."""


class SignalPath(nn.Module):
    """Samples of any length to the spectrogram of a clip, as `melray predict` computes it."""

    def __init__(self, settings: SignalSettings):
        super().__init__()
        self.settings = settings
        self.mel_power = MelPower(settings)

    def forward(self, samples_BN: Tensor) -> Tensor:
        """Return spectrograms in dB, float32 `[shape=(B, n_mels, num_frames)]`, of samples in float32."""
        settings = self.settings
        clip_BL = fix_length(samples_BN, *self._bounds(samples_BN), settings.num_samples)
        mel_BMT = 10 * self.mel_power(clip_BL).clamp(min=settings.min_power).log10()
        if settings.top_db is not None:
            mel_BMT = torch.maximum(mel_BMT, mel_BMT.amax(dim=(1, 2), keepdim=True) - settings.top_db)
        return mel_BMT.half().float()  # as shards store them, and as networks were trained on

    def _bounds(self, samples_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Return first sample and number of samples that are used of each sound, int64 `[shape=(B,)]`."""
        if self.settings.trim is not None:
            return sounding_part(samples_BN, self.settings.trim)
        batch, size = samples_BN.shape
        start_B = torch.zeros(batch, dtype=torch.int64, device=samples_BN.device)
        return start_B, start_B + size


class MelPower(nn.Module):
    """Power in each mel band of centered frames, by a Fourier transform of two factors (Cooley and Tukey).

    With S = P Q, sample q + Q p and frequency k + P j, the transform is a product with a P × P matrix over p
    and, for each k, one with a Q × Q matrix over q. Frequencies above half the sample rate mirror those
    below, so only k up to P / 2 are computed; of two mirrored frequencies one has weights in `bank_KM`.
    """

    window_S: Tensor
    first_KP: Tensor
    second_KQQ: Tensor
    bank_KM: Tensor

    def __init__(self, settings: SignalSettings):
        super().__init__()
        self.hop_length = settings.hop_length
        self.num_frames = 1 + settings.num_samples // settings.hop_length
        size = len(settings.window_S)
        self._p, self._q = p, q = balanced_factors(size)
        self.register_buffer("window_S", torch.tensor(settings.window_S, dtype=torch.float32))
        for name, values in {
            "first_KP": _first_factor(p),
            "second_KQQ": _second_factor(p, q),
            "bank_KM": _mirrored_bank(settings.bank_MF, p, q),
        }.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def forward(self, clip_BL: Tensor) -> Tensor:
        """Return the power `[shape=(B, n_mels, num_frames)]` of clips."""
        frames_BTPQ = (self._frames(clip_BL) * self.window_S).unflatten(2, (self._p, self._q))
        partial = torch.matmul(self.first_KP, frames_BTPQ)  # B T (real and imaginary, k) q
        partial = partial.unflatten(2, (2, -1)).permute(3, 0, 1, 2, 4).flatten(3).flatten(1, 2)
        spectrum = torch.bmm(partial, self.second_KQQ)  # k (B T) (real and imaginary, j)
        power = spectrum.square().unflatten(2, (2, -1)).sum(dim=2).transpose(0, 1).flatten(1)
        return torch.matmul(power, self.bank_KM).unflatten(0, (-1, self.num_frames)).transpose(1, 2)

    def _frames(self, clip_BL: Tensor) -> Tensor:
        """Return centered frames `[shape=(B, num_frames, S)]` with zero padding at both ends."""
        size = self._p * self._q
        block = math.gcd(self.hop_length, size)
        padding = (size // 2, size // 2 + -(clip_BL.shape[1] + size) % block)
        blocks = F.pad(clip_BL, padding).unflatten(1, (-1, block))
        hops_T = torch.arange(self.num_frames, device=clip_BL.device) * (self.hop_length // block)
        index_TS = hops_T[:, None] + torch.arange(size // block, device=clip_BL.device)
        return blocks[:, index_TS.flatten()].unflatten(1, (self.num_frames, -1)).flatten(2)


def sounding_part(samples_BN: Tensor, trim: TrimSettings) -> tuple[Tensor, Tensor]:
    """Return first sample and number of samples of each sound without silence at its ends, int64."""
    # One frame more than needed, of which export requires two; where it is loud, so is the one before.
    padded = F.pad(samples_BN.square(), (2 * trim.hop, 3 * trim.hop))
    power_BT = F.avg_pool1d(padded[:, None], 4 * trim.hop, trim.hop)[:, 0].clamp(min=trim.min_power)
    is_loud_BT = power_BT > power_BT.amax(dim=1, keepdim=True) * 10 ** (-trim.top_db / 10)
    position_T = torch.arange(power_BT.shape[1], device=samples_BN.device)
    first_B = is_loud_BT.int().argmax(dim=1) * trim.hop
    end_B = ((is_loud_BT * position_T).amax(dim=1) + 1) * trim.hop
    return first_B, end_B.clamp(max=samples_BN.shape[1]) - first_B


def fix_length(samples_BN: Tensor, first_B: Tensor, size_B: Tensor, num_samples: int) -> Tensor:
    """Return the centers of sounds, or zeros after short ones `[shape=(B, num_samples)]`.

    Args:
        samples_BN: samples.
        first_B: index of the first sample of each sound, int64.
        size_B: number of samples of each sound, int64.
        num_samples: number of samples to return.
    """
    begin_B = first_B + (size_B - num_samples).clamp(min=0) // 2
    # In two steps: the export would store the range of all samples as a constant.
    rows, columns = balanced_factors(num_samples)
    row_BR = begin_B[:, None] + torch.arange(rows, device=begin_B.device) * columns
    index_BL = (row_BR[:, :, None] + torch.arange(columns, device=begin_B.device)).flatten(1)
    is_inside_BL = index_BL < (first_B + size_B)[:, None]
    # Others are the zero behind the samples.
    return F.pad(samples_BN, (0, 1)).gather(1, torch.where(is_inside_BL, index_BL, samples_BN.shape[1]))


def balanced_factors(size: int) -> tuple[int, int]:
    """Return two factors of `size` that differ least, the larger one first."""
    smaller = next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)
    return size // smaller, smaller


def _first_factor(p: int) -> np.ndarray:
    """Return the transform over p: real parts of k = 0 … p / 2, then imaginary ones `[shape=(2 K, p)]`."""
    angles = 2 * np.pi / p * (np.outer(np.arange(p // 2 + 1), np.arange(p)) % p)
    return np.concatenate([np.cos(angles), -np.sin(angles)])


def _second_factor(p: int, q: int) -> np.ndarray:
    """Return the transform over q for each k, of complex numbers as pairs `[shape=(K, 2 q, 2 q)]`."""
    k, sample, j = np.ix_(np.arange(p // 2 + 1), np.arange(q), np.arange(q))
    angles = 2 * np.pi / (p * q) * (sample * (k + p * j) % (p * q))
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([np.concatenate([cos, -sin], 2), np.concatenate([sin, cos], 2)], 1)


def _mirrored_bank(bank_MF: np.ndarray, p: int, q: int) -> np.ndarray:
    """Return the mel weights of all computed frequencies `[shape=(K q, n_mels)]`."""
    computed = np.arange(p // 2 + 1)[:, None] + p * np.arange(q)
    frequencies, first = np.unique(np.minimum(computed, p * q - computed), return_index=True)
    weights = np.zeros((computed.size, len(bank_MF)), np.float32)
    weights[first] = bank_MF.T[frequencies]
    return weights

"""Per-channel energy normalization (PCEN, Wang et al. 2017): automatic gain control of each mel band.

The energy E of a band is divided by a power of M, its exponential mean over the frames before, and then
compressed: PCEN = (E / (eps + M)^gain + bias)^power - bias^power. Stationary background becomes flat, and
onsets stand out whatever their level. As in librosa, M starts with the first frame, and full scale is 2^31.

Shape suffixes: B batch, M mel bands, T frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.cached_tensors import cached_tensor
from models.precision import float32_only

# The published settings, for 16-bit audio and larger scales.
GAIN, BIAS, POWER, EPS = 0.98, 2.0, 0.5, 1e-6
# The mean of longer clips is computed in blocks: a matrix of all frames would grow with their square.
BLOCK_FRAMES = 512
# Far above full scale; energies of damaged audio beyond it could not be represented.
MAX_DB = 200.0
# In the logarithm: samples of full scale 1 as integers of 32 bits.
LOG_SCALE = 31 * math.log(2.0)


def smoothing_matrix(num_frames: int, smoothing: float, device: torch.device) -> Tensor:
    """Return the matrix whose product with energies is their exponential mean, float32 `[shape=(T, T)]`.

    Column t has the weight of each frame in the mean at frame t; `smoothing` is that of frame t itself.
    """
    frame_T = torch.arange(num_frames, device=device)
    age_TT = (frame_T[None, :] - frame_T[:, None]).float()
    weight_T = torch.where(frame_T == 0, 1.0, smoothing)
    return torch.where(age_TT >= 0, weight_T[:, None] * (1 - smoothing) ** age_TT.clamp(min=0), 0.0)


def exponential_mean(energy_BMT: Tensor, smoothing: float) -> Tensor:
    """Return the exponential mean over time up to each frame, of the same shape; it starts with the first."""
    num_frames = energy_BMT.shape[2]
    size = min(num_frames, BLOCK_FRAMES)
    matrix_TT = cached_tensor(smoothing_matrix, size, smoothing, energy_BMT.device)
    means: list[Tensor] = []
    for start in range(0, num_frames, BLOCK_FRAMES):
        block_BMT = energy_BMT[:, :, start : start + BLOCK_FRAMES]
        if means:  # a block continues the mean of the one before, with which its first frame is averaged
            first_BM1 = torch.lerp(means[-1][:, :, -1:], block_BMT[:, :, :1], smoothing)
            block_BMT = torch.cat([first_BM1, block_BMT[:, :, 1:]], dim=2)
        size = block_BMT.shape[2]
        means.append(block_BMT @ matrix_TT[:size, :size])
    return means[0] if len(means) == 1 else torch.cat(means, dim=2)


def pcen(mel_BMT: Tensor, smoothing: float) -> Tensor:
    """Return the PCEN of spectrograms, float32, at least 0 `[shape=(B, n_mels, num_frames)]`.

    Args:
        mel_BMT: spectrograms in dB, with reference 1.
        smoothing: weight of a frame in the mean energy, in (0, 1].
    """
    # In half precision energies would overflow: autocast would compute the product with it.
    with float32_only(mel_BMT.device):
        level_BMT = mel_BMT.float().clamp(max=MAX_DB)
        energy_BMT = torch.exp(level_BMT * (math.log(10.0) / 10) + LOG_SCALE)
        mean_BMT = exponential_mean(energy_BMT, smoothing)
        # Faster on CPUs than a power.
        leveled_BMT = energy_BMT * torch.exp(-GAIN * torch.log(mean_BMT + EPS))
        return (leveled_BMT + BIAS) ** POWER - BIAS**POWER


class PcenInput(nn.Module):
    """PCEN as the input of a network, with each mel band normalized over the training data."""

    mean_M: Tensor
    std_M: Tensor

    def __init__(self, n_mels: int, smoothing: float):
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("mean_M", torch.zeros(n_mels))
        self.register_buffer("std_M", torch.ones(n_mels))

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """Return normalized PCEN of spectrograms in dB, of the same shape."""
        return (self.compress(mel_BMT) - self.mean_M[:, None]) / self.std_M[:, None]

    def compress(self, mel_BMT: Tensor) -> Tensor:
        """Return the PCEN of spectrograms in dB, from which mean and standard deviation are computed."""
        return pcen(mel_BMT, self.smoothing)

    def set_statistics(self, mean_M: Tensor, std_M: Tensor) -> None:
        """Set mean and standard deviation of each mel band over the training data, of the PCEN."""
        self.mean_M.copy_(mean_M)
        self.std_M.copy_(std_M.clamp(min=1e-3))

"""Modulation spectrum: how fast the levels of a clip's mel bands fluctuate (Greenberg and Kingsbury 1997).

A rotor, an engine or a clock repeats for a whole clip. Each repetition may be weaker than the noise around
it, and then convolutions over a few frames miss it. In the spectrum of the level over all frames it is a line
far above the noise, at its rate. The spectrum hardly depends on circular time shifts.

Shape suffixes: B batch, M mel bands, T frames, G groups of bands, S segments, N frames of a segment,
F modulation frequencies, X any further axis.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.cached_tensors import cached_tensor
from models.norm import make_norm
from models.precision import float32_only
from models.settings import NormName

# Groups of neighboring bands whose powers are averaged: a line of one frequency stands out of less noise.
NUM_GROUPS = 8
# Longer clips are divided into segments, whose powers are averaged (Welch 1967); shorter ones are padded.
MAX_FRAMES, MIN_FRAMES = 512, 16
# Relative to the power of a level with the standard deviation of its band over the training data.
MIN_POWER = 1e-4
# Channels of the first convolution, as a fraction of the features of the spectrogram, and their range.
WIDTH_FRACTION, MIN_WIDTH, MAX_WIDTH = 4, 4, 32
# Kernel sizes of the convolutions, and their channels relative to the first.
LAYERS = ((5, 1), (3, 2), (3, 2))


class ModulationBranch(nn.Module):
    """Small network on the modulation spectrum, next to that on the spectrogram."""

    def __init__(self, n_mels: int, num_other_features: int, norm: NormName):
        """Build the branch for `n_mels` bands and a network with `num_other_features` on the spectrogram."""
        super().__init__()
        self.num_groups = min(NUM_GROUPS, n_mels)
        width = min(max(num_other_features // WIDTH_FRACTION, MIN_WIDTH), MAX_WIDTH)
        layers: list[nn.Module] = []
        in_channels = self.num_groups
        for kernel_size, factor in LAYERS:
            if layers:
                layers.append(nn.MaxPool2d((1, 2), ceil_mode=True))
            channels = factor * width
            layers += [
                nn.Conv2d(in_channels, channels, (1, kernel_size), padding=(0, kernel_size // 2), bias=False),
                make_norm(norm, channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = channels
        self.layers = nn.Sequential(*layers)
        self.num_features = 2 * in_channels
        """Size of the output."""

    def forward(self, level_BMT: Tensor) -> Tensor:
        """Return maxima and means over modulation frequencies `[shape=(B, num_features)]`.

        `level_BMT` are spectrograms in dB, with each mel band normalized over the training data.
        """
        spectrum_BGF = modulation_spectrum(level_BMT, self.num_groups)
        x_BKF = self.layers(spectrum_BGF[:, :, None])[:, :, 0]
        return torch.cat([x_BKF.amax(dim=2), x_BKF.mean(dim=2)], dim=1)


def modulation_spectrum(level_BMT: Tensor, num_groups: int) -> Tensor:
    """Return the logarithm of the power of each modulation frequency, relative to its mean over the clip.

    Frequencies are multiples of that of a segment, from 1 to half of its number of frames.

    Args:
        level_BMT: levels of bands, such as normalized spectrograms `[shape=(B, n_mels, num_frames)]`.
        num_groups: groups of neighboring bands; all bands if they are fewer.

    Returns:
        float32 `[shape=(B, num_groups, F)]`; 0 for a clip of constant levels.
    """
    # The lines of steady sounds are small differences of large numbers.
    with float32_only(level_BMT.device):
        segment_BMSN = _segments(level_BMT.float())
        segment_BMSN = segment_BMSN - segment_BMSN.mean(dim=3, keepdim=True)
        spectrum = segment_BMSN @ cached_tensor(transform_matrix, segment_BMSN.shape[3], level_BMT.device)
        power_BMF = spectrum.square().unflatten(3, (2, -1)).sum(dim=3).mean(dim=2)
        power_BGF = group_means(power_BMF, num_groups)
        log_power_BGF = torch.log(power_BGF + MIN_POWER)
        return log_power_BGF - log_power_BGF.mean(dim=(1, 2), keepdim=True)


def transform_matrix(num_frames: int, device: torch.device, has_window: bool = True) -> Tensor:
    """Return the matrix whose product with frames are the real, then the imaginary parts of their spectrum.

    A Hann window may be part of it, and white noise of variance 1 has a mean power of 1.

    Returns:
        float32 `[shape=(N, 2 F)]`; frequency 0 is left out.
    """
    frame_N = torch.arange(num_frames, device=device)
    frequency_F = torch.arange(1, num_frames // 2 + 1, device=device)
    turns_NF = (frame_N[:, None] * frequency_F % num_frames).float() / num_frames
    window_N = torch.ones(num_frames, device=device)
    if has_window:
        window_N = 0.5 - 0.5 * torch.cos(2 * torch.pi / num_frames * frame_N)
    window_N = window_N / window_N.square().sum().sqrt()
    angle_NF = 2 * torch.pi * turns_NF
    return window_N[:, None] * torch.cat([torch.cos(angle_NF), torch.sin(angle_NF)], dim=1)


def octave_slices(num_frequencies: int, count: int, width: float) -> list[slice]:
    """Divide frequencies 1 to `num_frequencies` into parts of a width in octaves, from the highest down.

    The last part has all lower ones; parts without a frequency are empty.
    """
    edges = [int(num_frequencies * 2.0 ** (-width * number)) for number in range(count)]
    return [slice(low, high) for high, low in pairwise([*edges, 0])]


def octave_means_matrix(num_frequencies: int, count: int, width: float, device: torch.device) -> Tensor:
    """Return the matrix whose product with frequencies are the means of octaves, 0 of one without any.

    Octaves are those of `octave_slices` `[shape=(num_frequencies, count)]`.
    """
    frequency_F = torch.arange(num_frequencies, device=device)
    columns = [
        ((frequency_F >= octave.start) & (frequency_F < octave.stop)) / max(octave.stop - octave.start, 1)
        for octave in octave_slices(num_frequencies, count, width)
    ]
    return torch.stack(columns, dim=1)


def _segments(level_BMT: Tensor) -> Tensor:
    """Return segments that overlap by half `[shape=(B, M, S, N)]`; one of a clip that is not too long."""
    num_frames = level_BMT.shape[2]
    if num_frames > MAX_FRAMES:
        return level_BMT.unfold(2, MAX_FRAMES, MAX_FRAMES // 2)
    if num_frames < MIN_FRAMES:
        level_BMT = level_BMT - level_BMT.mean(dim=2, keepdim=True)
        level_BMT = nn.functional.pad(level_BMT, (0, MIN_FRAMES - num_frames))
    return level_BMT[:, :, None]


def group_means(value_BMX: Tensor, num_groups: int) -> Tensor:
    """Return the means of groups of neighboring bands, as equal as possible; all bands if they are fewer.

    Args:
        value_BMX: values of bands, such as levels or powers `[shape=(B, n_mels, X)]`.
        num_groups: number of groups.

    Returns:
        `[shape=(B, min(num_groups, n_mels), X)]`.
    """
    num_bands = value_BMX.shape[1]
    width, num_wider = divmod(num_bands, min(num_groups, num_bands))
    # The first groups have one band more than the others.
    border = num_wider * (width + 1)
    means_BGX = value_BMX[:, border:].unflatten(1, (-1, width)).mean(dim=2)
    if num_wider == 0:
        return means_BGX
    wider_BGX = value_BMX[:, :border].unflatten(1, (-1, width + 1)).mean(dim=2)
    return torch.cat([wider_BGX, means_BGX], dim=1)

"""Conditional GAN: a generator of log-mel spectrograms of a given class, and a discriminator.

Both are residual networks without normalization layers (Huang et al. 2024, R3GAN), so that the output for
one clip never depends on the other clips of its batch. Two simplifications make training on CPUs affordable:
one cell of the finest feature map covers `patch` x `patch` values of the spectrogram, and convolutions have
no groups or bottleneck.

Class conditioning:
- generator: each residual block is modulated, scaled and shifted, by a style vector made from latent and
  class (Perez et al. 2018, FiLM; Karras et al. 2019, StyleGAN);
- discriminator: the score has a projection on the class (Miyato and Koyama 2018), and a second head predicts
  the class (Odena et al. 2017, AC-GAN).

The generator adds texture from a noise input (Karras et al. 2019).

Shape suffixes: B batch, M mel bands, T frames, C classes, K channels, H and W height and width of a feature
map, Z latent, S style, N noise kernels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.device_batches import to_device
from models.settings import GanConfig

LEAKY_RELU_SLOPE = 0.2
# The log power of noise has a standard deviation of 5.6 dB, less where a mel band averages over frequencies.
# A network without a noise input spends its capacity on this texture; with an unbounded one it could encode
# the sound in it. The bound is that of each kernel.
NUM_NOISE_KERNELS, NOISE_KERNEL_SIZE, NOISE_DB = 2, 5, 5.6


@dataclass(frozen=True)
class Latents:
    """Inputs of the generator for B clips, both standard normal."""

    z_BZ: Tensor
    """Latent vectors: content of the clips `[shape=(B, latent_dim)]`."""
    noise_BMT: Tensor
    """Noise: texture of the clips `[shape=(B, n_mels, num_frames)]`."""

    def __len__(self) -> int:
        return len(self.z_BZ)

    def __getitem__(self, index: slice) -> Latents:
        return Latents(self.z_BZ[index], self.noise_BMT[index])

    def to(self, device: torch.device) -> Latents:
        """Copy to `device` without waiting for the copy; on a CPU they are not copied."""
        return Latents(to_device(self.z_BZ, device), to_device(self.noise_BMT, device))


def grid_sizes(shape: tuple[int, int], config: GanConfig) -> list[tuple[int, int]]:
    """Return the feature map size (H, W) of each level, finest first, for spectrograms of `shape`.

    `shape` is `(n_mels, num_frames)`; odd sizes are rounded up.
    """
    height, width = (-(-size // config.patch) for size in shape)
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(len(config.channels))]


def sample_latents(
    config: GanConfig, shape: tuple[int, int], count: int, generator: torch.Generator
) -> Latents:
    """Sample the inputs of `count` clips of `shape` `(n_mels, num_frames)`, on the CPU."""
    z_BZ = torch.randn(count, config.latent_dim, generator=generator)
    return Latents(z_BZ, torch.randn(count, *shape, generator=generator))


class _NormalizedInput(nn.Module):
    """Base class of networks that store mean and standard deviation of each mel band with their weights."""

    mel_mean_M: Tensor
    mel_std_M: Tensor

    def __init__(self, n_mels: int):
        super().__init__()
        self.register_buffer("mel_mean_M", torch.zeros(n_mels))
        self.register_buffer("mel_std_M", torch.ones(n_mels))

    def set_statistics(self, mean_M: Tensor, std_M: Tensor) -> None:
        """Set mean and standard deviation of each mel band over the training data, in dB."""
        self.mel_mean_M.copy_(mean_M)
        self.mel_std_M.copy_(std_M.clamp(min=1e-3))


class Generator(_NormalizedInput):
    """Generator: latent and class → style → coarsest feature map → modulated residual blocks with upsampling.

    It works on normalized values inside; the output is in dB.
    """

    def __init__(self, config: GanConfig, shape: tuple[int, int], num_classes: int):
        super().__init__(shape[0])
        self.config, self.shape, self.num_classes = config, shape, num_classes
        self._sizes = grid_sizes(shape, config)[::-1]
        widths = config.channels[::-1]
        self.class_embedding = nn.Embedding(num_classes, config.style_dim)
        self.mapping = nn.Sequential(
            _linear(config.latent_dim + config.style_dim, config.style_dim),
            nn.LeakyReLU(LEAKY_RELU_SLOPE),
            _linear(config.style_dim, config.style_dim),
            nn.LeakyReLU(LEAKY_RELU_SLOPE),
        )
        self.from_style = _linear(config.style_dim, widths[0] * math.prod(self._sizes[0]))
        self.levels = nn.ModuleList()
        for in_channels, out_channels in itertools.pairwise((widths[0], *widths)):
            blocks = [
                _ModulatedBlock(in_channels if i == 0 else out_channels, out_channels, config.style_dim)
                for i in range(config.blocks)
            ]
            self.levels.append(nn.ModuleList(blocks))
        self.to_mel = _conv(widths[-1], config.patch**2, gain=1.0)
        self.noise_kernels = nn.Parameter(
            torch.randn(NUM_NOISE_KERNELS, 1, NOISE_KERNEL_SIZE, NOISE_KERNEL_SIZE)
        )
        self.noise_strength = _conv(widths[-1], NUM_NOISE_KERNELS, gain=0.1)

    def forward(self, latents: Latents, label_B: Tensor) -> Tensor:
        """Return spectrograms of the classes `label_B` in dB, float32 `[shape=(B, n_mels, num_frames)]`."""
        class_BS = F.normalize(self.class_embedding(label_B), dim=1) * math.sqrt(self.config.style_dim)
        style_BS = self.mapping(torch.cat([latents.z_BZ, class_BS], dim=1))
        x_BKHW = (
            self.from_style(style_BS)
            .unflatten(1, (-1, *self._sizes[0]))
            .contiguous(memory_format=torch.channels_last)
        )
        for size, blocks in zip(self._sizes, self.levels, strict=True):
            if x_BKHW.shape[2:] != size:
                x_BKHW = F.interpolate(x_BKHW, size, mode="bilinear", align_corners=False)
            for block in blocks:  # type: ignore[attr-defined]
                x_BKHW = block(x_BKHW, style_BS)
        x_BKHW = F.leaky_relu(x_BKHW, LEAKY_RELU_SLOPE)
        fake_BMT = F.pixel_shuffle(self.to_mel(x_BKHW), self.config.patch)[
            :, 0, : self.shape[0], : self.shape[1]
        ].float()
        return (
            fake_BMT * self.mel_std_M[:, None]
            + self.mel_mean_M[:, None]
            + self._texture(x_BKHW, latents.noise_BMT)
        )

    def _texture(self, x_BKHW: Tensor, noise_BMT: Tensor) -> Tensor:
        """Return filtered noise in dB `[shape=(B, n_mels, num_frames)]`.

        Filters are learned kernels of unit norm. The finest feature map `x_BKHW` sets the strength in (0, 1)
        of each kernel at each position.
        """
        strength_BNMT = F.interpolate(
            torch.sigmoid(self.noise_strength(x_BKHW)), self.shape, mode="bilinear", align_corners=False
        )
        filtered_BNMT = F.conv2d(
            noise_BMT[:, None],
            F.normalize(self.noise_kernels.flatten(1)).view_as(self.noise_kernels),
            padding=NOISE_KERNEL_SIZE // 2,
        )
        return NOISE_DB * (strength_BNMT * filtered_BNMT).sum(dim=1).float()


class Discriminator(_NormalizedInput):
    """Discriminator: residual blocks with downsampling, weighted pooling, projection score and class head."""

    def __init__(self, config: GanConfig, shape: tuple[int, int], num_classes: int):
        super().__init__(shape[0])
        self.config = config
        self._padding = [-size % config.patch for size in shape]
        sizes, widths = grid_sizes(shape, config), config.channels
        self.stem = _conv(config.patch**2, widths[0])
        self.levels = nn.ModuleList()
        for in_channels, out_channels in itertools.pairwise((widths[0], *widths)):
            blocks = [
                _Block(in_channels if i == 0 else out_channels, out_channels) for i in range(config.blocks)
            ]
            self.levels.append(nn.Sequential(*blocks))
        # One weight per position of the coarsest feature map and channel: a depthwise fully connected layer.
        self.pool_weight = nn.Parameter(torch.randn(widths[-1], *sizes[-1]) / math.sqrt(math.prod(sizes[-1])))
        self.score_head = _linear(widths[-1], 1, gain=1.0)
        self.class_embedding = nn.Embedding(num_classes, widths[-1])
        self.class_head = _linear(widths[-1], num_classes, gain=1.0)

    def forward(self, mel_BMT: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
        """Score spectrograms in dB `[shape=(B, n_mels, num_frames)]` as real clips of their classes.

        Returns:
            Scores, higher for real `[shape=(B,)]`, and class logits `[shape=(B, C)]`, both float32. The
            logits do not depend on `label_B`.
        """
        x_BMT = (mel_BMT - self.mel_mean_M[:, None]) / self.mel_std_M[:, None]
        padded = F.pad(x_BMT[:, None], (0, self._padding[1], 0, self._padding[0]), mode="replicate")
        x_BKHW = self.stem(
            F.pixel_unshuffle(padded, self.config.patch).contiguous(memory_format=torch.channels_last)
        )
        for level, blocks in enumerate(self.levels):
            if level:
                x_BKHW = F.avg_pool2d(x_BKHW, 2, ceil_mode=True, count_include_pad=False)
            x_BKHW = blocks(x_BKHW)
        pooled_BK = F.leaky_relu((x_BKHW.float() * self.pool_weight).sum(dim=(2, 3)), LEAKY_RELU_SLOPE)
        with torch.autocast(mel_BMT.device.type, enabled=False):
            projection_B = (pooled_BK * self.class_embedding(label_B)).sum(dim=1) / math.sqrt(
                pooled_BK.shape[1]
            )
            return self.score_head(pooled_BK)[:, 0] + projection_B, self.class_head(pooled_BK)


class _Block(nn.Module):
    """Residual block x + conv2(conv1(x)), with leaky ReLU before each convolution.

    `conv2` starts at zero, so that a deep network starts as a shallow one (Zhang et al. 2019, Fixup).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.skip = (
            _conv(in_channels, out_channels, kernel_size=1, gain=1.0)
            if in_channels != out_channels
            else nn.Identity()
        )
        self.conv1 = _conv(in_channels, out_channels)
        self.conv2 = _conv(out_channels, out_channels, gain=0.0)

    def forward(self, x_BKHW: Tensor) -> Tensor:
        y_BKHW = self.conv1(F.leaky_relu(x_BKHW, LEAKY_RELU_SLOPE))
        return self.skip(x_BKHW) + self.conv2(F.leaky_relu(y_BKHW, LEAKY_RELU_SLOPE))


class _ModulatedBlock(_Block):
    """Residual block whose hidden channels are scaled and shifted by the style vector (FiLM)."""

    def __init__(self, in_channels: int, out_channels: int, style_dim: int):
        super().__init__(in_channels, out_channels)
        self.film = _linear(style_dim, 2 * out_channels, gain=0.5)

    def forward(self, x_BKHW: Tensor, style_BS: Tensor) -> Tensor:  # type: ignore[override]
        scale, shift = self.film(style_BS)[:, :, None, None].chunk(2, dim=1)
        y_BKHW = self.conv1(F.leaky_relu(x_BKHW, LEAKY_RELU_SLOPE)) * (1 + scale) + shift
        return self.skip(x_BKHW) + self.conv2(F.leaky_relu(y_BKHW, LEAKY_RELU_SLOPE))


def _conv(in_channels: int, out_channels: int, kernel_size: int = 3, gain: float = math.sqrt(2)) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(in_channels * kernel_size**2))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _linear(in_features: int, out_features: int, gain: float = math.sqrt(2)) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(in_features))
    nn.init.zeros_(layer.bias)
    return layer

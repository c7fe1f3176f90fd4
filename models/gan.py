"""The conditional GAN: a generator (the creator) that draws log-mel spectrograms of a class, and a discriminator (the detective).

Both are residual networks without normalisation layers, the modern simple baseline of Huang et al. 2024 (R3GAN), so what a
network says of one clip never depends on the others of its batch. Two things are cut to a machine without a GPU: the finest grid
has one place for each `patch` x `patch` values of the spectrogram, and convolutions are plain.

The class steers both: the generator's every convolution is scaled and shifted by a vector made from latent and class (Perez et
al. 2018, FiLM; Karras et al. 2019), the discriminator's score is a projection on the class (Miyato and Koyama 2018), and it
names the class as well (Odena et al. 2017, AC-GAN). The generator makes its texture from noise of its own (Karras et al. 2019).

Shape suffixes: B batch, M mel bands, T frames, C classes, K channels, H and W places of a grid, Z latent, S style.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.config import Config

LEAKY_RELU_SLOPE = 0.2  # of the leaky ReLU
# Texture: the log of a noise's power scatters by 5.6 dB about its mean, by less where a band averages over frequencies. A network
# that had to make it from smooth values would do nothing else; one that could make more of it would paint sounds with it.
NOISE_KERNELS, GRAIN_SIZE, GRAIN_DB = 2, 5, 5.6


class GanConfig(Config):
    """Size and form of both networks."""

    latent_dim: int = Field(64, ge=1)
    """Length of the random vector that a clip is drawn from."""
    style_dim: int = Field(128, ge=1)
    """Length of the vector, made from latent and class, that steers the generator."""
    channels: tuple[int, ...] = Field((16, 48, 96, 192), min_length=2, max_length=8)
    """Channels of each level, from the finest grid to the coarsest; every level halves both axes."""
    blocks: int = Field(1, ge=1, le=8)
    """Residual blocks of each level."""
    patch: int = Field(4, ge=1, le=8)
    """The finest grid has one place for so many mel bands and frames; 1 is finest and costs most."""


@dataclass(frozen=True)
class Latents:
    """What clips are drawn from: `z_BZ` says what, `grain_BMT` is its texture; both are standard normal."""

    z_BZ: Tensor
    grain_BMT: Tensor

    def __len__(self) -> int:
        return len(self.z_BZ)

    def __getitem__(self, part: slice) -> Latents:
        return Latents(self.z_BZ[part], self.grain_BMT[part])

    def to(self, device: torch.device) -> Latents:
        """The same on another device."""
        return Latents(self.z_BZ.to(device), self.grain_BMT.to(device))


def grid_sizes(shape: tuple[int, int], config: GanConfig) -> list[tuple[int, int]]:
    """The grid of each level, finest first, for spectrograms of `shape` `(n_mels, num_frames)`; odd axes are rounded up."""
    height, width = (-(-size // config.patch) for size in shape)
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(len(config.channels))]


def sample_latents(
    config: GanConfig, shape: tuple[int, int], count: int, generator: torch.Generator
) -> Latents:
    """Draws what `count` clips of `shape` are made from, on the CPU."""
    z_BZ = torch.randn(count, config.latent_dim, generator=generator)
    return Latents(z_BZ, torch.randn(count, *shape, generator=generator))


class _NormalizedInput(nn.Module):
    """A network that knows mean and deviation of each mel band over the training set, in dB: they are part of its weights."""

    mel_mean_M: Tensor
    mel_std_M: Tensor

    def __init__(self, n_mels: int):
        super().__init__()
        self.register_buffer("mel_mean_M", torch.zeros(n_mels))
        self.register_buffer("mel_std_M", torch.ones(n_mels))

    def set_statistics(self, mean_M: Tensor, std_M: Tensor) -> None:
        """Takes mean and deviation of each mel band over the training set, in dB."""
        self.mel_mean_M.copy_(mean_M)
        self.mel_std_M.copy_(std_M.clamp(min=1e-3))


class Generator(_NormalizedInput):
    """Draws spectrograms: latent and class to a style, a coarse grid from it, and finer grids by steered residual blocks.

    Inside it works in standardised values.
    """

    def __init__(self, config: GanConfig, shape: tuple[int, int], num_classes: int):
        super().__init__(shape[0])
        self.config, self.shape, self.num_classes = config, shape, num_classes
        self._sizes = grid_sizes(shape, config)[::-1]
        widths = config.channels[::-1]
        self.embed = nn.Embedding(num_classes, config.style_dim)
        self.mapping = nn.Sequential(
            _linear(config.latent_dim + config.style_dim, config.style_dim),
            nn.LeakyReLU(LEAKY_RELU_SLOPE),
            _linear(config.style_dim, config.style_dim),
            nn.LeakyReLU(LEAKY_RELU_SLOPE),
        )
        self.start = _linear(config.style_dim, widths[0] * math.prod(self._sizes[0]))
        self.levels = nn.ModuleList()
        for before, after in itertools.pairwise((widths[0], *widths)):
            blocks = [
                _ModulatedBlock(before if i == 0 else after, after, config.style_dim)
                for i in range(config.blocks)
            ]
            self.levels.append(nn.ModuleList(blocks))
        self.draw = _conv(widths[-1], config.patch**2, gain=1.0)
        self.grain = nn.Parameter(torch.randn(NOISE_KERNELS, 1, GRAIN_SIZE, GRAIN_SIZE))
        self.amount = _conv(widths[-1], NOISE_KERNELS, gain=0.1)

    def forward(self, latents: Latents, label_B: Tensor) -> Tensor:
        """Spectrograms of the classes asked for, in dB, float32 `[shape=(B, n_mels, num_frames)]`."""
        class_BS = F.normalize(self.embed(label_B), dim=1) * math.sqrt(self.config.style_dim)
        style_BS = self.mapping(torch.cat([latents.z_BZ, class_BS], dim=1))
        x = (
            self.start(style_BS)
            .unflatten(1, (-1, *self._sizes[0]))
            .contiguous(memory_format=torch.channels_last)
        )
        for size, blocks in zip(self._sizes, self.levels, strict=True):
            if x.shape[2:] != size:
                x = F.interpolate(x, size, mode="bilinear", align_corners=False)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, style_BS)
        x = F.leaky_relu(x, LEAKY_RELU_SLOPE)
        drawn_BMT = F.pixel_shuffle(self.draw(x), self.config.patch)[
            :, 0, : self.shape[0], : self.shape[1]
        ].float()
        return (
            drawn_BMT * self.mel_std_M[:, None]
            + self.mel_mean_M[:, None]
            + self._texture(x, latents.grain_BMT)
        )

    def _texture(self, x: Tensor, grain_BMT: Tensor) -> Tensor:
        """Noise in dB as loud as the finest grid `x` wants it at each place, and as coarse as learnt `[shape=(B, n_mels, num_frames)]`."""
        amount = F.interpolate(
            torch.sigmoid(self.amount(x)), self.shape, mode="bilinear", align_corners=False
        )
        coarse = F.conv2d(
            grain_BMT[:, None],
            F.normalize(self.grain.flatten(1)).view_as(self.grain),
            padding=GRAIN_SIZE // 2,
        )
        return GRAIN_DB * (amount * coarse).sum(dim=1).float()


class Discriminator(_NormalizedInput):
    """Tells real spectrograms of a class from drawn ones: residual blocks down to a coarse grid, and a projection on the class."""

    def __init__(self, config: GanConfig, shape: tuple[int, int], num_classes: int):
        super().__init__(shape[0])
        self.config = config
        self._padding = [-size % config.patch for size in shape]
        sizes, widths = grid_sizes(shape, config), config.channels
        self.stem = _conv(config.patch**2, widths[0])
        self.levels = nn.ModuleList()
        for before, after in itertools.pairwise((widths[0], *widths)):
            self.levels.append(
                nn.Sequential(*(_Block(before if i == 0 else after, after) for i in range(config.blocks)))
            )
        # One weight for each place of the last grid, as in a fully connected layer, but each channel by itself.
        self.gather = nn.Parameter(torch.randn(widths[-1], *sizes[-1]) / math.sqrt(math.prod(sizes[-1])))
        self.score = _linear(widths[-1], 1, gain=1.0)
        self.project = nn.Embedding(num_classes, widths[-1])
        self.classify = _linear(widths[-1], num_classes, gain=1.0)

    def forward(self, mel_BMT: Tensor, label_B: Tensor) -> tuple[Tensor, Tensor]:
        """What it thinks of spectrograms in dB `[shape=(B, n_mels, num_frames)]`.

        Returns:
            How real each looks as one of its class `[shape=(B,)]`, and logits of what class it looks like `[shape=(B, C)]`; float32.
        """
        x_BMT = (mel_BMT - self.mel_mean_M[:, None]) / self.mel_std_M[:, None]
        padded = F.pad(x_BMT[:, None], (0, self._padding[1], 0, self._padding[0]), mode="replicate")
        x = self.stem(
            F.pixel_unshuffle(padded, self.config.patch).contiguous(memory_format=torch.channels_last)
        )
        for number, blocks in enumerate(self.levels):
            if number:
                x = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
            x = blocks(x)
        seen_BK = F.leaky_relu((x.float() * self.gather).sum(dim=(2, 3)), LEAKY_RELU_SLOPE)
        with torch.autocast(mel_BMT.device.type, enabled=False):
            projected_B = (seen_BK * self.project(label_B)).sum(dim=1) / math.sqrt(seen_BK.shape[1])
            return self.score(seen_BK)[:, 0] + projected_B, self.classify(seen_BK)


class _Block(nn.Module):
    """x + conv(conv(x)); the second convolution starts at zero, so that a deep network starts as a shallow one (Zhang et al. 2019, Fixup)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.skip = _conv(before, after, kernel=1, gain=1.0) if before != after else nn.Identity()
        self.first = _conv(before, after)
        self.second = _conv(after, after, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(F.leaky_relu(x, LEAKY_RELU_SLOPE))
        return self.skip(x) + self.second(F.leaky_relu(y, LEAKY_RELU_SLOPE))


class _ModulatedBlock(_Block):
    """The same, with channels scaled and shifted by the style."""

    def __init__(self, before: int, after: int, style_dim: int):
        super().__init__(before, after)
        self.steer = _linear(style_dim, 2 * after, gain=0.5)

    def forward(self, x: Tensor, style_BS: Tensor) -> Tensor:  # type: ignore[override]
        scale, shift = self.steer(style_BS)[:, :, None, None].chunk(2, dim=1)
        y = self.first(F.leaky_relu(x, LEAKY_RELU_SLOPE)) * (1 + scale) + shift
        return self.skip(x) + self.second(F.leaky_relu(y, LEAKY_RELU_SLOPE))


def _conv(before: int, after: int, kernel: int = 3, gain: float = math.sqrt(2)) -> nn.Conv2d:
    layer = nn.Conv2d(before, after, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(before * kernel**2))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _linear(before: int, after: int, gain: float = math.sqrt(2)) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(before))
    nn.init.zeros_(layer.bias)
    return layer

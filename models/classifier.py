"""The classifier: a convolutional network over log-mel spectrograms.

Shape suffixes: B batch, M mel bands, T frames, C classes, K channels.
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.config import Config


class ClassifierConfig(Config):
    """Size and form of the network."""

    channels: tuple[int, ...] = Field((32, 64, 128, 256), min_length=1, max_length=6)
    """Channels of each block; every block halves both axes, after a first convolution that does so too."""
    convs_per_block: int = Field(2, ge=1, le=4)
    """Convolutions in each block."""
    embedding_dim: int = Field(256, ge=1)
    """Channels after the compression, which is what the fully connected head sees."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Part of the head's inputs that is dropped in training."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation: over the batch, or over groups of channels in each sample (the same for any number of workers)."""


class Classifier(nn.Module):
    """Stem, blocks of Conv → norm → ReLU → pool, compression to a vector, fully connected head.

    The network takes plain dB and standardises each mel band itself: `mel_mean_M` and `mel_std_M` are part of the weights.
    Pooling over time adds mean and maximum (Kong et al. 2020, PANNs): a class may fill a clip or flash up once.
    """

    mel_mean_M: Tensor
    mel_std_M: Tensor

    def __init__(self, config: ClassifierConfig, n_mels: int, num_classes: int):
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.register_buffer("mel_mean_M", torch.zeros(n_mels))
        self.register_buffer("mel_std_M", torch.ones(n_mels))
        widths = (config.channels[0], *config.channels)
        self.stem = _conv(1, widths[0], config.norm, kernel=5, stride=2)
        self.blocks = nn.ModuleList(
            _block(before, after, config) for before, after in itertools.pairwise(widths)
        )
        self.compress = nn.Sequential(nn.Linear(widths[-1], config.embedding_dim), nn.ReLU(inplace=True))
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding_dim, config.embedding_dim),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding_dim, num_classes),
        )

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """Logits `[shape=(B, C)]` of spectrograms in dB `[shape=(B, n_mels, num_frames)]`."""
        return self.head(self.embed(mel_BMT))

    def embed(self, mel_BMT: Tensor) -> Tensor:
        """The vector that the head sees `[shape=(B, compressed)]`."""
        x_BMT = (mel_BMT - self.mel_mean_M[:, None]) / self.mel_std_M[:, None]
        x = self.stem(x_BMT[:, None].contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        x_BKT = x.mean(dim=2)
        return self.compress(x_BKT.mean(dim=2) + x_BKT.amax(dim=2))

    def set_statistics(self, mean_M: Tensor, std_M: Tensor) -> None:
        """Takes mean and deviation of each mel band over the training set, in dB."""
        self.mel_mean_M.copy_(mean_M)
        self.mel_std_M.copy_(std_M.clamp(min=1e-3))


def _block(before: int, after: int, config: ClassifierConfig) -> nn.Sequential:
    layers: list[nn.Module] = [
        _conv(before if i == 0 else after, after, config.norm) for i in range(config.convs_per_block)
    ]
    # ceil_mode keeps the last column of an odd axis, and an axis of one alive.
    return nn.Sequential(*layers, nn.MaxPool2d(2, ceil_mode=True))


def _conv(before: int, after: int, norm: str, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after) if norm == "batch" else nn.GroupNorm(_groups(after), after),
        nn.ReLU(inplace=True),
    )


def _groups(channels: int) -> int:
    """As many groups, up to 8, as divide the channels."""
    return max(n for n in range(1, 9) if channels % n == 0)

"""Plain convolutional network, in the manner of VGG (Simonyan and Zisserman 2015)."""

from __future__ import annotations

import itertools

from torch import nn

from models.backbones.layers import conv, pool
from models.settings import ClassifierConfig


def cnn(config: ClassifierConfig) -> tuple[nn.Module, list[nn.Module]]:
    """Build a stem of stride 2, and blocks that halve both axes."""
    widths = (config.channels[0], *config.channels)
    stem = conv(1, widths[0], config.norm, kernel_size=5, stride=2)
    blocks: list[nn.Module] = [
        _block(in_channels, out_channels, config) for in_channels, out_channels in itertools.pairwise(widths)
    ]
    return stem, blocks


def _block(in_channels: int, out_channels: int, config: ClassifierConfig) -> nn.Sequential:
    layers: list[nn.Module] = [
        conv(in_channels if i == 0 else out_channels, out_channels, config.norm)
        for i in range(config.convs_per_block)
    ]
    return nn.Sequential(*layers, pool())

"""Plain convolutional network, in the manner of VGG (Simonyan and Zisserman 2015)."""

from __future__ import annotations

from torch import nn

from models.backbones.layers import conv
from models.settings import ClassifierConfig


def cnn(in_channels: int, out_channels: int, config: ClassifierConfig) -> list[nn.Module]:
    """Return the convolutions of a block."""
    return [
        conv(in_channels if i == 0 else out_channels, out_channels, config.norm)
        for i in range(config.convs_per_block)
    ]

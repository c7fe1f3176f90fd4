"""Residual network with squeeze-excitation (He et al. 2016; Hu et al. 2018), at the cost of the plain CNN.

Each unit is two convolutions and a shortcut. Squeeze-excitation weights the channels by a small network on
their means over the whole clip. The last norm of a unit starts at zero, so that a deep network starts as a
shallow one (Goyal et al. 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.backbones.layers import conv
from models.norm import make_norm
from models.settings import ClassifierConfig

# Channels of the hidden layer of squeeze-excitation, as a fraction of those it weights, and their minimum.
REDUCTION, MIN_HIDDEN = 8, 8


def resnet_se(in_channels: int, out_channels: int, config: ClassifierConfig) -> list[nn.Module]:
    """Return the residual units of a block."""
    return [
        ResidualUnit(in_channels if i == 0 else out_channels, out_channels, config)
        for i in range(config.convs_per_block // 2)
    ]


class ResidualUnit(nn.Module):
    """ReLU of the shortcut plus the reweighted output of two convolutions."""

    def __init__(self, in_channels: int, out_channels: int, config: ClassifierConfig):
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, config.norm)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = make_norm(config.norm, out_channels)
        nn.init.zeros_(self.norm2.weight)  # type: ignore[arg-type]
        self.excitation = SqueezeExcitation(out_channels)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False), make_norm(config.norm, out_channels)
            )
            if in_channels != out_channels
            else nn.Identity()
        )

    def forward(self, x_BKHW: Tensor) -> Tensor:
        y_BKHW = self.excitation(self.norm2(self.conv2(self.conv1(x_BKHW))))
        return torch.relu(self.shortcut(x_BKHW) + y_BKHW)


class SqueezeExcitation(nn.Module):
    """Weights of channels in (0, 1) from their means over both axes."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(MIN_HIDDEN, channels // REDUCTION)
        self.reduce, self.expand = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x_BKHW: Tensor) -> Tensor:
        weight_BK = torch.sigmoid(self.expand(torch.relu(self.reduce(x_BKHW.mean(dim=(2, 3))))))
        return x_BKHW * weight_BK[:, :, None, None]

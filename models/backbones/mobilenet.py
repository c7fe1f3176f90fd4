"""Inverted residual units with squeeze-excitation, after MobileNetV3 (Howard et al. 2019).

EfficientAT (Schmid et al. 2023) shows that such networks classify sounds as well as transformers, at a
fraction of their operations. A unit widens its channels, convolves each of them by itself, weights them by
squeeze-excitation, and narrows them again, without an activation at the end (Sandler et al. 2018).
"""

from __future__ import annotations

from torch import Tensor, nn

from models.backbones.resnet_se import SqueezeExcitation
from models.norm import make_norm
from models.settings import ClassifierConfig

# Channels within a unit, as a multiple of those at its end.
EXPANSION = 4


def mobilenet(in_channels: int, out_channels: int, config: ClassifierConfig) -> list[nn.Module]:
    """Return the units of a block."""
    return [
        InvertedResidualUnit(in_channels if i == 0 else out_channels, out_channels, config)
        for i in range(config.convs_per_block // 2)
    ]


class InvertedResidualUnit(nn.Module):
    """Wide convolution of each channel between two that mix channels; with a shortcut if the width stays."""

    def __init__(self, in_channels: int, out_channels: int, config: ClassifierConfig):
        super().__init__()
        hidden = EXPANSION * out_channels
        self.expand = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False), make_norm(config.norm, hidden), nn.Hardswish()
        )
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            make_norm(config.norm, hidden),
            nn.Hardswish(),
        )
        self.excitation = SqueezeExcitation(hidden)
        self.project = nn.Sequential(
            nn.Conv2d(hidden, out_channels, 1, bias=False), make_norm(config.norm, out_channels)
        )
        self.has_shortcut = in_channels == out_channels

    def forward(self, x_BKHW: Tensor) -> Tensor:
        y_BKHW = self.project(self.excitation(self.depthwise(self.expand(x_BKHW))))
        return x_BKHW + y_BKHW if self.has_shortcut else y_BKHW

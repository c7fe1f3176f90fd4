"""Layers that several architectures share."""

from __future__ import annotations

from torch import nn

from models.norm import make_norm
from models.settings import NormName


def conv(
    in_channels: int, out_channels: int, norm: NormName, kernel_size: int = 3, stride: int = 1
) -> nn.Sequential:
    """Return convolution → norm → ReLU; odd kernels keep the size, up to the stride."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
        make_norm(norm, out_channels),
        nn.ReLU(inplace=True),
    )

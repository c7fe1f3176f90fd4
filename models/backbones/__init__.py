"""Architectures of the classifier: a file for each, and the registry by which `--model.arch` chooses one.

Networks of timm (`timm_models.py`) are complete. Any other architecture is the layers of a block at one size.
Its backbone is a stem of stride 2, and blocks that end with pooling: it turns a normalized spectrogram
`[shape=(B, input_channels, M, T)]` into feature maps `[shape=(B, channels[-1], M', T')]`. Pooling over time,
clip embedding and head follow in `models/classifier.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import nn

from models.backbones.cnn import cnn
from models.backbones.layers import conv
from models.backbones.mobilenet import mobilenet
from models.backbones.resnet_se import resnet_se
from models.settings import ClassifierConfig

# Returns the layers of a block, from a number of channels to another one.
BlockLayers = Callable[[int, int, ClassifierConfig], list[nn.Module]]
BACKBONES: dict[str, BlockLayers] = {"cnn": cnn, "resnet-se": resnet_se, "mobilenet": mobilenet}


def build_backbone(config: ClassifierConfig) -> tuple[nn.Module, list[nn.Module]]:
    """Build stem and blocks of the architecture that the settings name, with random weights."""
    widths = (config.channels[0], *config.channels)
    stem = conv(config.input_channels, widths[0], config.norm, kernel_size=5, stride=2)
    block_layers = BACKBONES[config.arch]
    return stem, [
        _pooled(block_layers(in_channels, out_channels, config))
        for in_channels, out_channels in itertools.pairwise(widths)
    ]


def _pooled(layers: list[nn.Module]) -> nn.Sequential:
    """Return the layers of a block followed by pooling."""
    # ceil_mode keeps the last element of an odd axis, and an axis of length 1.
    pooling: list[nn.Module] = [nn.MaxPool2d(2, ceil_mode=True)]
    last = layers[-1]
    if isinstance(last, nn.Sequential) and isinstance(last[-1], nn.ReLU):
        # Maximum and ReLU commute: after pooling it has a quarter of the values.
        pooling.append(last[-1])
        last[-1] = nn.Identity()
    return nn.Sequential(*layers, *pooling)

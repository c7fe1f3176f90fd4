"""Architectures of the classifier: a file for each, and the registry by which `--model.arch` chooses one.

A backbone is a stem and blocks that turn a normalized spectrogram `[shape=(B, 1, M, T)]` into feature maps
`[shape=(B, K, M', T')]`. Pooling, clip embedding and head are the same for all (`models/classifier.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from models.backbones.cnn import cnn
from models.backbones.resnet_se import resnet_se
from models.settings import ArchName, ClassifierConfig


class Backbone(NamedTuple):
    """Stages of a network from the normalized spectrogram to the last feature maps."""

    stem: nn.Module
    blocks: Sequence[nn.Module]
    channels: int
    """Channels K of the last feature maps."""


Build = Callable[[ClassifierConfig], tuple[nn.Module, list[nn.Module]]]
BACKBONES: dict[ArchName, Build] = {"cnn": cnn, "resnet-se": resnet_se}


def build_backbone(config: ClassifierConfig) -> Backbone:
    """Build the backbone that the settings name, with random weights."""
    stem, blocks = BACKBONES[config.arch](config)
    return Backbone(stem, blocks, config.channels[-1])

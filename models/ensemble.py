"""Several classifiers that predict as one: the mean of their calibrated probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.classifier import Classifier
from models.settings import ClassifierConfig


class Ensemble(nn.Module):
    """Classifiers of the same classes and spectrograms, used for inference only."""

    # Of the mean of probabilities that are calibrated already.
    temperature = 1.0

    def __init__(self, members: Sequence[Classifier]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.num_classes = members[0].num_classes
        self.repeats_short_clips = all(member.repeats_short_clips for member in members)

    @property
    def config(self) -> ClassifierConfig:
        """Architecture of the first member."""
        return self.members[0].config  # type: ignore[return-value]

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """Return logarithms of mean probabilities `[shape=(B, C)]`, float32; arguments as `Classifier`."""
        log_probabilities = [
            (member(mel_BMT).float() / member.temperature).log_softmax(1) for member in self.members
        ]
        return torch.stack(log_probabilities).logsumexp(0) - math.log(len(log_probabilities))

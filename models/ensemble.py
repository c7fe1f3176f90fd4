"""Several classifiers that predict as one: the mean of their calibrated probabilities.

Lakshminarayanan et al. 2017: members that differ by their random seeds; inputs may differ as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.classifier import Classifier
from models.settings import ClassifierConfig


class Ensemble(nn.Module):
    """Classifiers of the same classes and spectrograms, used for inference only."""

    num_classes: int
    multi_label: bool
    repeats_short_clips: bool

    def __init__(self, members: Sequence[Classifier | Ensemble], temperature: float = 1.0):
        """Combine members; `temperature` is the divisor of the logits of the mean of their probabilities."""
        super().__init__()
        self.temperature = temperature
        self.members = nn.ModuleList(members)
        self.num_classes: int = members[0].num_classes
        self.multi_label: bool = members[0].multi_label
        self.repeats_short_clips: bool = all(member.repeats_short_clips for member in members)

    @property
    def _classifiers(self) -> list[Classifier | Ensemble]:
        return list(self.members)  # type: ignore[arg-type]

    @property
    def config(self) -> ClassifierConfig:
        """Architecture of the first member."""
        return self._classifiers[0].config

    @property
    def embedding_dim(self) -> int:
        """Size of the embeddings of all members together."""
        return sum(member.embedding_dim for member in self._classifiers)

    def forward(self, mel_BMT: Tensor, is_repeated: bool = False) -> Tensor:
        """Return logits of mean probabilities `[shape=(B, C)]`, float32; arguments as `Classifier`.

        They are logarithms of the probabilities, or of their odds for multi-label classifiers.
        """
        logits = [member(mel_BMT, is_repeated).float() / member.temperature for member in self._classifiers]
        return logits_of_mean(logits, self.multi_label)

    def embed_and_classify(self, mel_BMT: Tensor, is_repeated: bool = False) -> tuple[Tensor, Tensor]:
        """Return the embeddings of all members, one after the other `[shape=(B, embedding_dim)]`, and logits.

        Those of different members have nothing in common, so that their mean would say little. Together they
        have length 1 as well.
        """
        embeddings, logits = [], []
        for member in self._classifiers:
            embedding_BK, logits_BC = member.embed_and_classify(mel_BMT, is_repeated)
            embeddings.append(embedding_BK)
            logits.append(logits_BC.float() / member.temperature)
        embedding_BK = torch.cat(embeddings, dim=1) / math.sqrt(len(embeddings))
        return embedding_BK, logits_of_mean(logits, self.multi_label)


def logits_of_mean(logits: Sequence[Tensor], multi_label: bool) -> Tensor:
    """Return the logits of the mean of probabilities, given by their logits, each `[shape=(B, C)]`, float32.

    They are logarithms of the probabilities, or of their odds for multi-label classifiers.
    """
    if multi_label:
        present, absent = (
            torch.stack([F.logsigmoid(sign * values) for values in logits]).logsumexp(0) for sign in (1, -1)
        )
        return present - absent
    log_probabilities = torch.stack([values.log_softmax(1) for values in logits])
    return log_probabilities.logsumexp(0) - math.log(len(logits))

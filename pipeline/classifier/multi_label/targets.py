"""What a multi-label run trains on: targets of rows, frequencies and weights of classes, and the loss.

Shape suffixes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.classifier import Classifier
from models.multi_label_loss import multi_label_loss, positive_weights, smooth_targets
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.label_sets import LabelSets, join_label_sets, label_sets
from pipeline.data.loader import sampling_weights
from pipeline.data.rows import LabeledRows

# Frequency of a class without training rows, and distance of that of one in all rows from 1.
MIN_PRIOR = 1e-3


@dataclass(frozen=True)
class MultiLabelTargets:
    """Classes of the rows of a multi-label run, and how its loss treats them."""

    classes: LabelSets
    """Of each row, those of the extra shards last."""
    prior_C: Tensor
    """Frequency of each class in the rows of an epoch, as they are sampled, float32."""
    positive_weight_C: Tensor | None
    """Weight of the loss where a class is present; None: 1."""

    def arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the targets of some rows `[shape=(B,)]` as an input of a step."""
        return {"target_BC": self.classes[rows].view(np.uint8)}

    def loss(self, logits_BC: Tensor, target_BC: Tensor, config: TrainClassifierConfig) -> Tensor:
        """Return the training loss of each row `[shape=(B,)]`; logits are float32."""
        smooth_BC = smooth_targets(target_BC, self.prior_C, config.label_smoothing)
        return multi_label_loss(logits_BC, smooth_BC, self.positive_weight_C, config.focal_gamma)


def multi_label_targets(
    config: TrainClassifierConfig,
    datasets: Sequence[LabeledRows],
    labels: np.ndarray,
    train: np.ndarray,
    device: torch.device,
) -> MultiLabelTargets:
    """Return the targets of a run.

    Args:
        config: settings of the run.
        datasets: its datasets, that of `shards` first, whose classes are those of the run.
        labels: class of each row by which it is sampled, over all datasets.
        train: indices of the training rows, over all datasets.
        device: device of the tensors.
    """
    names = datasets[0].class_names
    classes = join_label_sets([label_sets(other.table, names, other.multi_label) for other in datasets])
    weights = positive_weights(classes.counts(train), len(train)) if config.class_weights else None
    sampled = sampling_weights(labels[train]) if config.sampling == "balanced" else None
    return MultiLabelTargets(
        classes,
        torch.tensor(classes.frequencies(train, sampled), dtype=torch.float32, device=device),
        None if weights is None else torch.from_numpy(weights).to(device),
    )


@torch.no_grad()
def set_output_bias(model: Classifier, prior_C: Tensor) -> None:
    """Let a network predict the frequency of each class at first, as that of RetinaNet (Lin et al. 2017).

    From probabilities of 1/2, the first epochs would be spent on the absence of most classes.
    """
    for layer in model.output_layers:
        layer.bias.copy_(prior_C.to(layer.bias.device).logit(eps=MIN_PRIOR))

"""What a multi-label run has in addition: targets of each row, frequencies and weights of the classes,
validation by macro average precision, and a threshold per class.

Shape suffixes: B batch, N validation clips, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.calibration import best_temperature, binary_likelihood_at_temperatures
from models.classifier import Classifier
from models.device_batches import to_device
from models.multi_label_loss import multi_label_loss, positive_weights, smooth_targets
from models.multi_label_metrics import average_precisions, choose_thresholds, mean_of_defined
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.label_sets import LabelSets, join_label_sets, label_sets
from pipeline.data.loader import batch_slices
from pipeline.data.rows import LabeledRows

if TYPE_CHECKING:
    from pipeline.classifier.state import TrainState

# Frequency of a class without training rows, and distance of that of one in all rows from 1.
MIN_PRIOR = 1e-3


@dataclass(frozen=True)
class MultiLabelTargets:
    """Classes of the rows of a multi-label run, and how its loss treats them."""

    classes: LabelSets
    """Of each row, those of the extra shards last."""
    prior_C: Tensor
    """Frequency of each class in the training rows, float32."""
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
    config: TrainClassifierConfig, datasets: Sequence[LabeledRows], train: np.ndarray, device: torch.device
) -> MultiLabelTargets:
    """Return the targets of a run.

    Args:
        config: settings of the run.
        datasets: its datasets, that of `shards` first, whose classes are those of the run.
        train: indices of the training rows, over all datasets.
        device: device of the tensors.
    """
    names = datasets[0].class_names
    classes = join_label_sets([label_sets(other.table, names, other.multi_label) for other in datasets])
    counts = classes.counts(train)
    weights = positive_weights(counts, len(train)) if config.class_weights else None
    return MultiLabelTargets(
        classes,
        torch.tensor(counts / len(train), dtype=torch.float32, device=device),
        None if weights is None else torch.from_numpy(weights).to(device),
    )


@torch.no_grad()
def set_output_bias(model: Classifier, prior_C: Tensor) -> None:
    """Let a network predict the frequency of each class at first, as that of RetinaNet (Lin et al. 2017).

    From probabilities of 1/2, the first epochs would be spent on the absence of most classes.
    """
    bias = model.head[-1].bias
    assert isinstance(bias, Tensor)
    bias.copy_(prior_C.to(bias.device).logit(eps=MIN_PRIOR))


@torch.inference_mode()
def evaluate_multi_label_epoch(state: TrainState, batch_size: int) -> dict[str, float]:
    """Return the metrics of the EMA weights on the validation clips, and set the thresholds of the state.

    All ranks get the logits of all clips, N x C values, and compute the same: average precision ranks all
    clips, so it is no sum over workers.
    """
    clips = state.split.val
    assert state.multi_label is not None
    logits_NC = _all_logits(state, clips, batch_size)
    targets = state.multi_label.classes[clips]
    target_NC = to_device(targets.astype(np.float32), logits_NC.device)
    loss = F.binary_cross_entropy_with_logits(logits_NC.double(), target_NC.double())
    temperature = best_temperature(binary_likelihood_at_temperatures(logits_NC, target_NC).cpu().numpy())
    probabilities = (logits_NC / temperature).sigmoid().cpu().numpy()
    metrics = {"val_loss": float(loss), "temperature": temperature}
    if not np.isfinite(probabilities).all():
        return metrics  # the loss is not finite either, and ends the run
    thresholds = choose_thresholds(targets, probabilities)
    state.thresholds = tuple(thresholds.tolist())
    return {
        "val_loss": float(loss),
        "val_map": mean_of_defined(average_precisions(targets, probabilities)) or 0.0,
        "val_macro_f1": _macro_f1(targets, probabilities >= thresholds),
        "temperature": temperature,
    }


def _all_logits(state: TrainState, clips: np.ndarray, batch_size: int) -> Tensor:
    """Return the logits of all validation clips `[shape=(N, C)]`, float32, on every rank; a collective."""
    state.world.broadcast([value for value in state.ema.model.buffers() if value.is_floating_point()])
    device = state.world.device
    logits_NC = torch.zeros(len(clips), len(state.dataset.class_names), device=device)
    local_clips = state.data.local_rows(state.world, clips)
    positions = to_device(np.searchsorted(clips, local_clips), device)
    for batch_slice in batch_slices(len(local_clips), batch_size):
        with state.autocast():
            logits_BC = state.ema.model(state.loader(local_clips[batch_slice]).float())
        logits_NC[positions[batch_slice]] = logits_BC.float()
    return state.world.sum(logits_NC)


def _macro_f1(targets: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean F1 of the classes that a clip has; 0 if no clip has any. Both are `[shape=(N, C)]`."""
    support = targets.sum(axis=0)
    f1 = 2 * (targets & predicted).sum(axis=0) / np.maximum(support + predicted.sum(axis=0), 1)
    return float(f1[support > 0].mean()) if support.any() else 0.0

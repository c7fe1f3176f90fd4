"""Validation of a multi-label run: macro average precision, temperature, and a threshold per class.

Shape suffixes: B batch, N validation clips, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.calibration import best_temperature, binary_likelihood_at_temperatures
from models.device_batches import to_device
from models.multi_label_metrics import average_precisions, choose_thresholds, mean_of_defined, rank_classes
from pipeline.classifier.state import TrainState
from pipeline.data.loader import batch_slices


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
    rankings = rank_classes(targets, probabilities)
    thresholds = choose_thresholds(rankings, targets, probabilities)
    state.thresholds = tuple(thresholds.tolist())
    return {
        "val_loss": float(loss),
        "val_map": mean_of_defined(average_precisions(rankings)) or 0.0,
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

"""Class probabilities of spectrograms."""

from __future__ import annotations

import numpy as np
import torch

from models.classifier import Classifier
from pipeline.data.loader import batch_slices
from pipeline.training.model_file import SavedClassifier
from pipeline.training.optim import Precision, resolve_precision

BATCH_SIZE = 64


@torch.inference_mode()
def predict_probabilities(
    model: Classifier,
    mels: np.ndarray,
    tta_shifts: int = 1,
    precision: Precision = "fp32",
    device: torch.device | None = None,
) -> np.ndarray:
    """Return the probability of each class `[shape=(N, C)]`, float32; rows sum to 1.

    Args:
        model: in evaluation mode, on `device`.
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        tta_shifts: number of evenly spaced circular time shifts to average over (test-time augmentation);
            1 uses the clip as it is.
        precision: numeric precision of the network; with float32 scores do not depend on the batch.
        device: device of the computation (default: CPU).
    """
    device = device or torch.device("cpu")
    dtype = resolve_precision(precision, device)
    probabilities = np.zeros((len(mels), model.num_classes), np.float32)
    shifts = [round(i * mels.shape[2] / tta_shifts) for i in range(tta_shifts)]
    for batch in batch_slices(len(mels), BATCH_SIZE):
        mels_BMT = torch.from_numpy(np.ascontiguousarray(mels[batch])).to(device).float()
        for shift in shifts:
            with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                logits = model(mels_BMT.roll(shift, dims=2) if shift else mels_BMT)
            probabilities[batch] += logits.float().softmax(1).cpu().numpy() / tta_shifts
    return probabilities


def class_priors(saved: SavedClassifier) -> np.ndarray:
    """Return the class frequencies of the training data `[shape=(C,)]`, float32; uniform if unknown.

    They are the prediction for unreadable files.
    """
    counts = saved.metadata.training.get("class_counts") or {}
    values = np.array([counts.get(name, 0) for name in saved.metadata.class_names], np.float32)
    return values / values.sum() if values.sum() > 0 else np.full_like(values, 1 / len(values))

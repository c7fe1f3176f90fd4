"""From spectrograms to probabilities."""

from __future__ import annotations

import numpy as np
import torch

from models.classifier import Classifier
from pipeline.data.loader import batch_slices
from pipeline.training.optim import Precision, resolve_precision

BATCH = 64


@torch.inference_mode()
def predict_probabilities(
    model: Classifier,
    mels: np.ndarray,
    shifts: int = 1,
    precision: Precision = "fp32",
    device: torch.device | None = None,
) -> np.ndarray:
    """Probability of each class `[shape=(N, C)]`, float32, rows sum to 1.

    Args:
        model: in evaluation mode, on `device`.
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        shifts: averages over so many turns of each clip in time, evenly spread; 1 takes the clip as it is.
        precision: arithmetic of the network; float32 makes scores that do not depend on the batch.
        device: by default the CPU.
    """
    device = device or torch.device("cpu")
    dtype = resolve_precision(precision, device)
    out = np.zeros((len(mels), model.num_classes), np.float32)
    turns = [round(i * mels.shape[2] / shifts) for i in range(shifts)]
    for part in batch_slices(len(mels), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(mels[part])).to(device).float()
        for turn in turns:
            with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                logits = model(batch.roll(turn, dims=2) if turn else batch)
            out[part] += logits.float().softmax(1).cpu().numpy() / shifts
    return out

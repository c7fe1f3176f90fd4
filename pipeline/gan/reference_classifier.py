"""Judges: classifiers of the real clips that a GAN learns from, which say what the drawn ones are taken for.

There are two, with nothing in common but the clips: one chooses the best epoch, the other gives the final figures. Neither
chooses an epoch of its own, so the validation clips stay a fair sample of real ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.data.loader import batch_slices
from pipeline.training.model_file import SavedClassifier, load_classifier

Purpose = Literal["selection", "evaluation"]
BATCH = 64


def load_reference_classifier(run: Path, purpose: Purpose) -> SavedClassifier | None:
    """A judge of a GAN's run, or none where there is none."""
    folder = run / "reference_classifiers" / purpose
    return load_classifier(folder) if (folder / "summary.json").is_file() else None


@torch.no_grad()
def embed_and_classify(judge: SavedClassifier, mels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a judge makes of spectrograms in dB `[shape=(N, n_mels, num_frames)]`.

    Returns:
        Its embeddings `[shape=(N, K)]` and probabilities of the classes `[shape=(N, C)]`, both float32.
    """
    embeddings, probabilities = [], []
    for part in batch_slices(len(mels), BATCH):
        embedding = judge.model.embed(torch.from_numpy(np.asarray(mels[part], np.float32)))
        embeddings.append(embedding.numpy())
        probabilities.append(judge.model.head(embedding).softmax(dim=1).numpy())
    return np.concatenate(embeddings), np.concatenate(probabilities)

"""Reference classifiers: trained on the real clips of a GAN's run, they embed and classify generated ones.

There are two independent ones: `selection` chooses the best epoch during training, `evaluation` computes the
reported metrics. Both keep their last epoch, so that they are not selected on the validation clips, which
remain an unbiased sample of real clips.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pipeline.data.loader import batch_slices
from pipeline.training.model_file import SavedClassifier, load_classifier

Purpose = Literal["selection", "evaluation"]
BATCH_SIZE = 64


def load_reference_classifier(run: Path, purpose: Purpose) -> SavedClassifier | None:
    """Load a reference classifier of a GAN's run; None if the run has no fully trained one."""
    folder = run / "reference_classifiers" / purpose
    return load_classifier(folder) if (folder / "summary.json").is_file() else None


@torch.no_grad()
def embed_and_classify(classifier: SavedClassifier, mels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embed and classify spectrograms.

    Args:
        classifier: a reference classifier.
        mels: in dB `[shape=(N, n_mels, num_frames)]`.

    Returns:
        Embeddings `[shape=(N, K)]` and class probabilities `[shape=(N, C)]`, both float32.
    """
    embeddings, probabilities = [], []
    for batch in batch_slices(len(mels), BATCH_SIZE):
        embedding = classifier.model.embed(torch.from_numpy(np.asarray(mels[batch], np.float32)))
        embeddings.append(embedding.numpy())
        probabilities.append(classifier.model.head(embedding).softmax(dim=1).numpy())
    return np.concatenate(embeddings), np.concatenate(probabilities)

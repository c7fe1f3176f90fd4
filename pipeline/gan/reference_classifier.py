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

from models.device_batches import to_device
from pipeline.classifier.inference import classifier_batch_size
from pipeline.data.loader import batch_slices
from pipeline.distributed.worker import heartbeat
from pipeline.training.model_file import SavedClassifier, load_classifier

Purpose = Literal["selection", "evaluation"]


def load_reference_classifier(run: Path, purpose: Purpose) -> SavedClassifier | None:
    """Load a reference classifier of a GAN's run; None if the run has no fully trained one."""
    folder = run / "reference_classifiers" / purpose
    return load_classifier(folder) if (folder / "summary.json").is_file() else None


@torch.no_grad()
def embed_and_classify(
    classifier: SavedClassifier, mels: np.ndarray, batch_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Embed and classify spectrograms on the classifier's device, with a heartbeat per batch.

    Args:
        classifier: a reference classifier.
        mels: in dB `[shape=(N, n_mels, num_frames)]`.
        batch_size: number of spectrograms at a time (default: as suits the device).

    Returns:
        Embeddings `[shape=(N, K)]` and class probabilities `[shape=(N, C)]`, both float32.
    """
    model = classifier.model
    device = model.mel_mean_M.device
    embeddings, probabilities = [], []
    for batch in batch_slices(len(mels), batch_size or classifier_batch_size(model, mels.shape[1:], device)):
        embedding = model.embed(to_device(mels[batch], device).float())
        embeddings.append(embedding)
        probabilities.append(model.head(embedding).softmax(dim=1))
        heartbeat()
    return torch.cat(embeddings).cpu().numpy(), torch.cat(probabilities).cpu().numpy()

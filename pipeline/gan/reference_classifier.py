"""Reference classifiers: trained on the real clips of a GAN's run, they embed and classify generated ones.

There are two independent ones: `selection` chooses the best epoch during training, `evaluation` computes the
reported metrics. Both keep their last epoch, so that they are not selected on the validation clips, which
remain a nearly unbiased sample of real clips: they only determine when to stop.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch

from models.device_batches import to_device
from pipeline.audio.features import feature_mismatch
from pipeline.classifier.inference import classifier_batch_size
from pipeline.data.loader import batch_slices
from pipeline.data.split_record import SPLIT_NAME, read_split_record, shared_rows, trained_clips
from pipeline.distributed.worker import heartbeat
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.training.model_file import GeneratorMetadata, SavedClassifier, load_classifier

Purpose = Literal["selection", "evaluation"]


class ClassifiedClips(NamedTuple):
    """Outputs of a reference classifier for N clips."""

    embeddings: np.ndarray
    """`[shape=(N, K)]`, float32."""
    predictions: np.ndarray
    """Predicted classes `[shape=(N,)]`."""
    confidence: np.ndarray
    """Probability of each clip's own class `[shape=(N,)]`, float32."""


def load_reference_classifier(run: Path, purpose: Purpose) -> SavedClassifier | None:
    """Load a reference classifier of a GAN's run; None if the run has no fully trained one."""
    folder = run / "reference_classifiers" / purpose
    return load_classifier(folder) if (folder / "summary.json").is_file() else None


def load_selection_classifier(run: Path) -> SavedClassifier | None:
    """Load the selection classifier of a GAN's run; None also if there is a single class to predict."""
    saved = load_reference_classifier(run, "selection")
    return None if saved is None or len(saved.metadata.class_names) == 1 else saved


def load_other_classifier(run: Path, generator: GeneratorMetadata, scored: pd.DataFrame) -> SavedClassifier:
    """Load a classifier of any run to evaluate a generator with.

    Logs a warning if it was trained on clips, rows of a dataset, with which generated ones are compared.

    Raises:
        UserError: an unusable run, or other spectrograms or classes than those of the generator.
    """
    saved = load_classifier(run, "--reference-run")
    flag = f"--reference-run {run}"
    if mismatch := feature_mismatch(saved.metadata.features, generator.features, "the generator has"):
        raise UserError(f"{flag} uses {mismatch}; train it on the dataset of the generator")
    if saved.metadata.class_names != generator.class_names or saved.metadata.multi_label:
        raise UserError(f"{flag} has other classes than the generator; train it on the same classes")
    _warn_if_trained_on(run, scored)
    return saved


def _warn_if_trained_on(run: Path, scored: pd.DataFrame) -> None:
    record = read_split_record(run / SPLIT_NAME)
    count = 0 if record is None else int(shared_rows(scored, trained_clips(record)).sum())
    if count:
        logger.warning(
            "--reference-run %s was trained on %d of the %d real clips with which generated ones are "
            "compared, so the distances are too high; train it with the --fold or --seed of the generator",
            run,
            count,
            len(scored),
        )


@torch.no_grad()
def embed_and_classify(
    classifier: SavedClassifier, mels: np.ndarray, labels: np.ndarray, batch_size: int | None = None
) -> ClassifiedClips:
    """Embed and classify spectrograms on the classifier's device, with a heartbeat per batch.

    Args:
        classifier: a reference classifier.
        mels: in dB `[shape=(N, n_mels, num_frames)]`.
        labels: true or requested classes `[shape=(N,)]`.
        batch_size: number of spectrograms at a time (default: as suits the device).
    """
    model = classifier.model
    device = model.mel_mean_M.device
    batches = []
    for batch in batch_slices(len(mels), batch_size or classifier_batch_size(model, mels.shape[1:], device)):
        embedding_BK = model.embed(to_device(mels[batch], device).float())
        # Reduced batch by batch: the probabilities of thousands of classes would fill the memory.
        probability_BC = model.head(embedding_BK).softmax(dim=1)
        label_B = to_device(np.asarray(labels[batch], np.int64), device)
        own_B = probability_BC.gather(1, label_B[:, None])[:, 0]
        batches.append((embedding_BK, probability_BC.argmax(dim=1), own_B))
        heartbeat()
    return ClassifiedClips(*(torch.cat(values).cpu().numpy() for values in zip(*batches, strict=True)))

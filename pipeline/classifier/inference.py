"""Class probabilities and embeddings of spectrograms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from models.classifier import Classifier
from models.device_batches import device_batch_size, to_device
from models.ensemble import Ensemble, logits_of_mean
from models.repetition import repeat_short_clips
from pipeline.classifier.outputs import Outputs
from pipeline.data.loader import batch_slices
from pipeline.training.model_file import ClassifierMetadata
from pipeline.training.optim import Precision, resolve_precision, set_float32_precision

# On a CPU the maps of few spectrograms stay in its caches, and glibc reuses their memory, where it returns
# larger blocks to the system at once.
CPU_BATCH_SIZE, MAX_BATCH_SIZE = 4, 512


def classifier_batch_size(model: Classifier | Ensemble, shape: tuple[int, ...], device: torch.device) -> int:
    """Return the number of spectrograms of `shape` `(n_mels, num_frames)` that are classified at once."""
    # The finest feature maps have a quarter of the values, in 4 bytes; about six of them exist at a time.
    bytes_per_clip = 6 * model.config.channels[0] * shape[0] * shape[1]
    on_cpu = max(CPU_BATCH_SIZE, torch.get_num_threads())
    return device_batch_size(bytes_per_clip, device, on_cpu, MAX_BATCH_SIZE)


@torch.no_grad()
def predict_outputs(
    model: Classifier | Ensemble,
    mels: np.ndarray,
    tta_shifts: int = 1,
    precision: Precision = "fp32",
    device: torch.device | None = None,
    with_embeddings: bool = False,
) -> Outputs:
    """Return the probabilities of spectrograms, and if requested their embeddings.

    Rows of probabilities sum to 1, except those of a multi-label model. Outputs are accumulated on the device
    and read back once.

    Args:
        model: in evaluation mode, on `device`.
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        tta_shifts: number of evenly spaced circular time shifts to average over (test-time augmentation);
            1 uses the clip as it is.
        precision: numeric precision of the network; with float32 scores do not depend on the batch.
        device: device of the computation (default: CPU).
        with_embeddings: whether embeddings are requested.
    """
    device = device or torch.device("cpu")
    probabilities = torch.zeros(len(mels), model.num_classes, device=device)
    embeddings = torch.zeros(len(mels), model.embedding_dim if with_embeddings else 0, device=device)
    for batch, shifted in _batch_outputs(model, mels, tta_shifts, precision, device, with_embeddings):
        for embedding, logits in shifted:
            values = logits.sigmoid() if model.multi_label else logits.softmax(1)
            probabilities[batch] += values / tta_shifts
            if embedding is not None:
                embeddings[batch] += embedding / tta_shifts
    return Outputs(probabilities.cpu().numpy(), embeddings.cpu().numpy() if with_embeddings else None)


def predict_probabilities(
    model: Classifier | Ensemble,
    mels: np.ndarray,
    tta_shifts: int = 1,
    precision: Precision = "fp32",
    device: torch.device | None = None,
) -> np.ndarray:
    """Return the calibrated probability of each class `[shape=(N, C)]`; arguments as `predict_outputs`."""
    return predict_outputs(model, mels, tta_shifts, precision, device).probabilities


@torch.no_grad()
def predict_logits(
    model: Classifier | Ensemble, mels: np.ndarray, tta_shifts: int, device: torch.device
) -> np.ndarray:
    """Return the logits of the probabilities of `predict_probabilities` `[shape=(N, C)]`, float32."""
    result = torch.empty(len(mels), model.num_classes, device=device)
    for batch, shifted in _batch_outputs(model, mels, tta_shifts, "fp32", device):
        result[batch] = logits_of_mean([logits for _, logits in shifted], model.multi_label)
    return result.cpu().numpy()


def _batch_outputs(
    model: Classifier | Ensemble,
    mels: np.ndarray,
    tta_shifts: int,
    precision: Precision,
    device: torch.device,
    with_embeddings: bool = False,
) -> Iterator[tuple[slice, Iterator[tuple[Tensor | None, Tensor]]]]:
    """Yield each batch with its embeddings and calibrated logits of each shift, as `predict_outputs`."""
    dtype = resolve_precision(precision, device)
    if device.type == "cuda":
        set_float32_precision(precision)
    shifts = [round(i * mels.shape[2] / tta_shifts) for i in range(tta_shifts)]
    batch_size = classifier_batch_size(model, mels.shape[1:], device)
    with nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype):
        for batch in batch_slices(len(mels), batch_size):
            mels_BMT = to_device(mels[batch], device).float()
            is_repeated = len(shifts) > 1 and model.repeats_short_clips
            if is_repeated:  # before a shift, which would move their padding to the middle
                mels_BMT = repeat_short_clips(mels_BMT)
            yield batch, _shifted_outputs(model, mels_BMT, shifts, is_repeated, with_embeddings)


def _shifted_outputs(
    model: Classifier | Ensemble,
    mels_BMT: Tensor,
    shifts: Sequence[int],
    is_repeated: bool,
    with_embeddings: bool,
) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Yield embeddings, or None, and calibrated logits of spectrograms at each shift, float32."""
    for shift in shifts:
        shifted_BMT = mels_BMT.roll(shift, dims=2) if shift else mels_BMT
        if with_embeddings:
            embedding_BK, logits_BC = model.embed_and_classify(shifted_BMT, is_repeated)
            yield embedding_BK.float(), logits_BC.float() / model.temperature
        else:
            logits_BC = model(shifted_BMT, is_repeated=True) if is_repeated else model(shifted_BMT)
            yield None, logits_BC.float() / model.temperature


def class_priors(metadata: ClassifierMetadata) -> np.ndarray:
    """Return the class frequencies of the training data `[shape=(C,)]`, float32; uniform if unknown.

    They are the prediction for unreadable files: the fraction of the rows that have each class. Rows of a
    multi-label dataset have any number of them; if their number is unknown, one is assumed.
    """
    counts = metadata.training.get("class_counts") or {}
    values = np.array([counts.get(name, 0) for name in metadata.class_names], np.float32)
    rows = metadata.training.get("rows") if metadata.multi_label else None
    if rows:
        return values / np.float32(rows)
    return values / values.sum() if values.sum() > 0 else np.full_like(values, 1 / len(values))

"""Checks of an exported classifier against `melray predict`: probabilities, time, loss by quantization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.multi_label_metrics import rank_classes
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.audio.waveform import trim_silence
from pipeline.classifier.evaluation_rows import check_classes
from pipeline.classifier.export_clips import RunClips
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predictor_model import PredictorModel
from pipeline.data.label_sets import label_sets, row_labels
from pipeline.data.loader import batch_slices
from pipeline.io.text import plural
from pipeline.training.export.runtime import Run, milliseconds_per_call

BATCH_SIZE = 16


@dataclass(frozen=True)
class QuantizationLoss:
    """Predictions in 8-bit integers compared with those in float32."""

    clips: int
    same: float
    """Fraction of the clips, or of clips and classes, with the same prediction."""
    metric: str
    """Accuracy, or macro average precision of a multi-label model."""
    score: float
    float32_score: float

    def describe(self, clips: str) -> str:
        """Return the loss in one line; `clips` is what the clips are."""
        return (
            f"int8 against float32 on {self.clips} {clips}: same prediction {self.same:.1%}, {self.metric} "
            f"{self.score:.1%} against {self.float32_score:.1%}"
        )


def predict_sound(saved: PredictorModel, samples: np.ndarray, trim: bool) -> np.ndarray:
    """Return the probabilities of a sound `[shape=(C,)]` as `melray predict` computes them.

    `samples` are not trimmed; `trim` is whether they must be, where the settings of the run trim them.
    """
    features = saved.metadata.features
    if trim and features.trim_db is not None:
        samples = trim_silence(samples, features.trim_db)
    result: np.ndarray = predict_probabilities(saved.model, spectrogram(samples, features)[None])[0]
    return result


def largest_difference(saved: PredictorModel, run: Run, sounds: Sequence[np.ndarray], trim: bool) -> float:
    """Return the largest difference of a probability of an exported model over some sounds."""
    return max(
        float(np.abs(run(samples[None])[0] - predict_sound(saved, samples, trim)).max()) for samples in sounds
    )


def describe_latency(saved: PredictorModel, run: Run, trim: bool) -> str:
    """Return the time for a clip of exported model and melray, on one thread, in one line."""
    features = saved.metadata.features
    clip = synthetic_clip(features)
    exported = milliseconds_per_call(lambda: run(clip[None]))
    own = milliseconds_per_call(lambda: predict_sound(saved, clip, trim))
    return f"time for a clip of {features.seconds:g} s on one thread: {exported:.1f} ms, melray {own:.1f} ms"


def synthetic_clip(features: FeatureConfig) -> np.ndarray:
    """Return noise of the length of a clip."""
    return 0.1 * np.random.default_rng(0).standard_normal(features.num_samples).astype(np.float32)


def quantization_loss(saved: PredictorModel, clips: RunClips, float32: Run, int8: Run) -> QuantizationLoss:
    """Compare two networks, from spectrograms to probabilities, on the compared clips of a run.

    Raises:
        UserError: clips of classes that the model does not know.
    """
    dataset, rows, names = clips.dataset, clips.compared, saved.metadata.class_names
    check_classes(dataset, rows, saved)
    expected, actual = (_probabilities(run, dataset.mels, rows) for run in (float32, int8))
    table = dataset.table.iloc[rows]
    if saved.metadata.multi_label:
        targets = label_sets(table, names, dataset.multi_label)[:]
        thresholds = saved.metadata.class_thresholds()
        same = (expected >= thresholds) == (actual >= thresholds)
        score: Callable[[np.ndarray], float] = lambda values: _average_precision(targets, values)  # noqa: E731
        metric = "macro average precision"
    else:
        labels = row_labels(table, names, dataset.multi_label)
        same = expected.argmax(axis=1) == actual.argmax(axis=1)
        score = lambda values: float(np.mean(values.argmax(axis=1) == labels))  # noqa: E731
        metric = "accuracy"
    return QuantizationLoss(len(rows), float(same.mean()), metric, score(actual), score(expected))


def _average_precision(targets: np.ndarray, probabilities: np.ndarray) -> float:
    return float(
        np.nanmean([ranking.average_precision() for ranking in rank_classes(targets, probabilities)])
    )


def _probabilities(run: Run, mels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    batches = batch_slices(len(rows), BATCH_SIZE)
    return np.concatenate([run(np.asarray(mels[rows[batch]], np.float32)) for batch in batches])


def describe_sounds(real: int, synthetic: int, clips: str) -> str:
    """Return the number of sounds of a check; `clips` is what the real ones are."""
    texts = [f"{real} {clips}"] if real else []
    return " and ".join([*texts, plural(synthetic, "synthetic sound")])

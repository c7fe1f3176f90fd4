"""Checks of an exported classifier against `melray predict`: probabilities, time, loss by quantization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.multi_label_metrics import rank_classes
from pipeline.audio.features import FeatureConfig, spectrogram, trim_ends
from pipeline.classifier.evaluation_rows import check_classes
from pipeline.classifier.export_clips import RunClips
from pipeline.classifier.inference import predict_outputs
from pipeline.classifier.outputs import Outputs
from pipeline.classifier.predictor_model import PredictorModel
from pipeline.data.label_sets import label_sets, row_labels
from pipeline.data.loader import batch_slices
from pipeline.io.text import plural
from pipeline.training.export.runtime import ExportedModel, milliseconds_per_call

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
    probabilities: np.ndarray = _sound_outputs(saved, samples, trim).probabilities[0]
    return probabilities


def _sound_outputs(
    saved: PredictorModel, samples: np.ndarray, trim: bool, with_embeddings: bool = False
) -> Outputs:
    features = saved.metadata.features
    mels = spectrogram(trim_ends(samples, features) if trim else samples, features)[None]
    return predict_outputs(saved.model, mels, with_embeddings=with_embeddings)


def largest_differences(
    saved: PredictorModel, exported: ExportedModel, sounds: Sequence[np.ndarray], trim: bool
) -> dict[str, float]:
    """Return the largest difference of each output of an exported model over some sounds, by its name."""
    differences: dict[str, float] = {}
    for samples in sounds:
        outputs = exported.outputs(samples[None])
        expected = _sound_outputs(saved, samples, trim, len(outputs) > 1)._asdict()
        for (name, values), actual in zip(expected.items(), outputs, strict=False):
            differences[name] = max(differences.get(name, 0.0), float(np.abs(actual - values).max()))
    return differences


def describe_latency(saved: PredictorModel, exported: ExportedModel, trim: bool) -> str:
    """Return the time for a clip of exported model and melray, on one thread, in one line."""
    features = saved.metadata.features
    clip = synthetic_clip(features)
    exported_ms = milliseconds_per_call(lambda: exported(clip[None]))
    melray_ms = milliseconds_per_call(lambda: predict_sound(saved, clip, trim))
    times = f"{exported_ms:.1f} ms, melray {melray_ms:.1f} ms"
    return f"time for a clip of {features.seconds:g} s on one thread: {times}"


def synthetic_clip(features: FeatureConfig) -> np.ndarray:
    """Return noise of the length of a clip."""
    return 0.1 * np.random.default_rng(0).standard_normal(features.num_samples).astype(np.float32)


def quantization_loss(
    saved: PredictorModel, clips: RunClips, float32: ExportedModel, int8: ExportedModel
) -> QuantizationLoss:
    """Compare two networks, from spectrograms to probabilities, on the compared clips of a run.

    Raises:
        UserError: clips of classes that the model does not know.
    """
    dataset, rows, names = clips.dataset, clips.compared, saved.metadata.class_names
    check_classes(dataset, rows, saved)
    expected, actual = (_probabilities(model, dataset.mels, rows) for model in (float32, int8))
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


def _probabilities(model: ExportedModel, mels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    batches = batch_slices(len(rows), BATCH_SIZE)
    return np.concatenate([model(np.asarray(mels[rows[batch]], np.float32)) for batch in batches])


def describe_sounds(real: int, synthetic: int, clips: str) -> str:
    """Return the number of sounds of a check; `clips` is what the real ones are."""
    texts = [f"{real} {clips}"] if real else []
    return " and ".join([*texts, plural(synthetic, "synthetic sound")])

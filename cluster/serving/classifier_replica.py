"""A replica of a classifier: loads the model once, and classifies sounds in batches."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cluster.serving import analysis
from cluster.serving.analysis import SoundSpectrograms, analyze
from cluster.serving.decoders import Decoders
from cluster.serving.messages import Classification, Rejection, Sound, WindowScores
from pipeline.classifier.sound_classifier import CHUNK_WINDOWS, SoundClassifier, WindowProbabilities
from pipeline.data.loader import batch_slices
from pipeline.distributed.devices import Device
from pipeline.distributed.failures import WorkerLostError
from pipeline.training.optim import Precision

CRASHED = f"crashes its decoder, or needs more than {analysis.DECODE_TIMEOUT_S:g} s"


@dataclass(frozen=True)
class ClassifierSettings:
    """Settings of the replicas of a classifier."""

    max_seconds: float
    decoders: int = 1
    """Number of processes that decode."""
    device: Device = "cpu"
    tta_shifts: int = 1
    precision: Precision = "fp32"


class ClassifierReplica:
    """Classifies sounds."""

    def __init__(self, run: Path, settings: ClassifierSettings):
        """Load the model.

        Raises:
            UserError: as `SoundClassifier`.
        """
        self._settings = settings
        self._decoders = Decoders(settings.decoders, analysis.__name__)
        self._classifier = SoundClassifier(run, settings.device, settings.tta_shifts, settings.precision)

    async def classify(self, sound: Sound) -> Classification | Rejection:
        """Classify a sound, or return why that is impossible."""
        features = self._classifier.metadata.features
        try:
            spectrograms = await self._decoders.run(analyze, sound, features, self._settings.max_seconds)
        except WorkerLostError:
            return Rejection(422, CRASHED)
        if isinstance(spectrograms, Rejection):
            return spectrograms
        # Chunks, between which other requests have their turn.
        chunks = batch_slices(len(spectrograms.mels), CHUNK_WINDOWS)
        probabilities = np.concatenate([await self.predict(spectrograms.mels[chunk]) for chunk in chunks])
        return self._result(spectrograms, probabilities)

    async def predict(self, mels: np.ndarray) -> np.ndarray:
        """Return the probabilities of spectrograms `[shape=(N, n_mels, num_frames)]`, `[shape=(N, C)]`."""
        return (await self.predict_all([mels]))[0]

    async def predict_all(self, requests: list[np.ndarray]) -> list[np.ndarray]:
        """Return the probabilities of the spectrograms of several requests, in a thread."""
        mels = np.concatenate(requests)
        probabilities = await asyncio.to_thread(self._classifier.classify_mels, mels)
        if not np.isfinite(probabilities).all():
            raise ValueError("the network returns values that are not finite")
        return np.split(probabilities, np.cumsum([len(request) for request in requests])[:-1])

    def _result(self, sound: SoundSpectrograms, probabilities: np.ndarray) -> Classification:
        seconds, warnings = sound.recording.seconds, sound.warnings
        if sound.starts is None:
            return Classification(seconds, probabilities[0], warnings=warnings, image=sound.image)
        classifier = self._classifier
        # What is anywhere in a sound is in it; of one class for all of it, the mean over windows is known.
        whole = probabilities.max(axis=0) if classifier.multi_label else probabilities.mean(axis=0)
        rows = np.full((len(sound.starts), probabilities.shape[1]), np.nan, np.float32)
        rows[sound.readable] = probabilities
        windows = WindowProbabilities(
            sound.recording,
            classifier.seconds,
            sound.hop,
            classifier.class_names,
            rows,
            classifier.metadata.class_thresholds(),
        )
        events = [asdict(event) for event in windows.events()]
        scores = WindowScores(classifier.seconds, sound.hop, sound.starts, rows)
        return Classification(seconds, whole, scores, events, warnings, sound.image)

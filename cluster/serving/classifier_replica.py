"""A replica of a classifier: loads the model once, and classifies sounds in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cluster.serving import analysis
from cluster.serving.analysis import SoundSpectrograms, analyze
from cluster.serving.decoders import Decoders
from cluster.serving.messages import Classification, Rejection, Sound, WindowScores
from pipeline.classifier.outputs import Outputs
from pipeline.classifier.sound_classifier import SoundClassifier
from pipeline.classifier.sound_results import WindowProbabilities
from pipeline.classifier.windows.scan import CHUNK_WINDOWS
from pipeline.data.loader import batch_slices
from pipeline.distributed.devices import Device
from pipeline.distributed.failures import WorkerLostError
from pipeline.distributed.worker import release_memory
from pipeline.training.optim import Precision

# Seconds in which the sounds of a group are decoded, usually.
ROUND_S = 0.25
# Seconds after which a decoder has failed: the longest sounds of common formats take a few.
DECODE_TIMEOUT_S = 60.0
CRASHED = f"crashes its decoder, or needs more than {DECODE_TIMEOUT_S:g} s"


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
        self._decoders = Decoders(settings.decoders, analysis.__name__, DECODE_TIMEOUT_S)
        self._classifier = SoundClassifier(run, settings.device, settings.tta_shifts, settings.precision)
        # Batches one after another: each uses all threads of the replica.
        self._network = asyncio.Lock()

    async def classify(self, sound: Sound) -> Classification | Rejection:
        """Classify a sound, or return why that is impossible."""
        async for results in self.classify_group([sound]):
            return results[0][1]
        raise AssertionError("each sound has a result")

    async def classify_group(
        self, sounds: list[Sound]
    ) -> AsyncIterator[list[tuple[int, Classification | Rejection]]]:
        """Yield the results of sounds, each with the index of its sound, as they are ready.

        The network classifies all clips together that are decoded within `ROUND_S`; long sounds, and those on
        which a decoder hangs, do not delay others by more than that.
        """
        decoding = {asyncio.create_task(self._decode(sound)): index for index, sound in enumerate(sounds)}
        classifying: dict[asyncio.Task[Classification], int] = {}
        try:
            while decoding or classifying:
                done, _ = await asyncio.wait([*decoding, *classifying], timeout=ROUND_S)
                decoded = {decoding.pop(task): task.result() for task in [*decoding] if task in done}
                results: dict[int, Classification | Rejection] = {
                    classifying.pop(task): task.result() for task in [*classifying] if task in done
                }
                results |= {i: sound for i, sound in decoded.items() if isinstance(sound, Rejection)}
                readable = {i: sound for i, sound in decoded.items() if isinstance(sound, SoundSpectrograms)}
                clips = {i: sound for i, sound in readable.items() if len(sound.mels) == 1}
                for index in readable.keys() - clips.keys():
                    wants = sounds[index].wants_embeddings
                    task = asyncio.create_task(self._classify_windows(readable[index], wants))
                    classifying[task] = index
                wanting = {index for index in clips if sounds[index].wants_embeddings}
                results |= await self._classify_clips(clips, wanting)
                if results:
                    yield list(results.items())
        finally:
            for unfinished in [*decoding, *classifying]:
                unfinished.cancel()

    async def _decode(self, sound: Sound) -> SoundSpectrograms | Rejection:
        features = self._classifier.metadata.features
        try:
            result: SoundSpectrograms | Rejection = await self._decoders.run(
                analyze, sound, features, self._settings.max_seconds
            )
        except WorkerLostError:
            return Rejection(422, CRASHED)
        return result

    async def _classify_clips(
        self, clips: dict[int, SoundSpectrograms], wanting: set[int]
    ) -> dict[int, Classification]:
        """Classify sounds of one window each as a batch; `wanting` are those whose embeddings are wanted."""
        if not clips:
            return {}
        outputs = await self._predict(np.concatenate([clip.mels for clip in clips.values()]), bool(wanting))
        results = {}
        for number, (index, clip) in enumerate(clips.items()):
            own = outputs.select([number])
            results[index] = self._result(clip, own if index in wanting else Outputs(own.probabilities))
        return results

    async def _classify_windows(self, sound: SoundSpectrograms, wants_embeddings: bool) -> Classification:
        """Classify a sound in chunks, between which others have their turn."""
        chunks = batch_slices(len(sound.mels), CHUNK_WINDOWS)
        parts = [await self._predict(sound.mels[chunk], wants_embeddings) for chunk in chunks]
        release_memory()  # a chunk needs several times that of a group of clips
        return self._result(sound, Outputs.join(parts))

    async def _predict(self, mels: np.ndarray, with_embeddings: bool) -> Outputs:
        """Return the outputs of spectrograms `[shape=(N, n_mels, num_frames)]`."""
        async with self._network:
            return await asyncio.to_thread(self._classifier.outputs_of_mels, mels, with_embeddings)

    def _result(self, sound: SoundSpectrograms, outputs: Outputs) -> Classification:
        seconds, warnings = sound.recording.seconds, sound.warnings
        probabilities, embeddings = outputs
        embedding = None if embeddings is None else embeddings.mean(axis=0)
        if sound.starts is None:
            return Classification(
                seconds, probabilities[0], warnings=warnings, image=sound.image, embedding=embedding
            )
        classifier = self._classifier
        # What is anywhere in a sound is in it; of one class for all of it, the mean over windows is known.
        whole = probabilities.max(axis=0) if classifier.multi_label else probabilities.mean(axis=0)
        rows = outputs.with_missing(sound.readable, len(sound.starts))
        windows = WindowProbabilities(
            sound.recording,
            classifier.seconds,
            sound.hop,
            classifier.class_names,
            rows.probabilities,
            classifier.metadata.class_thresholds(),
        )
        events = [asdict(event) for event in windows.events()]
        scores = WindowScores(
            classifier.seconds, sound.hop, sound.starts, rows.probabilities, rows.embeddings
        )
        return Classification(seconds, whole, scores, events, warnings, sound.image, embedding)

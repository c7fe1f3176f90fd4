"""A trained classifier that is ready for audio: files, samples, and all windows of long recordings.

For notebooks, pages and servers, which classify some sounds in one process; `melray predict` classifies
thousands of files on a cluster. Both have the same probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.audio.decode import OnWarning, ignore_warning
from pipeline.audio.features import ClipSource, load_clip, spectrogram, split_windows
from pipeline.audio.recordings import Recording, read_recording, read_windows
from pipeline.audio.waveform import resample, trim_silence
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predictor_model import load_predictor
from pipeline.classifier.windows.events import merge_events
from pipeline.data.loader import batch_slices
from pipeline.data.windows import window_starts
from pipeline.distributed.devices import Device, process_device
from pipeline.io.console import Progress
from pipeline.training.optim import Precision

# Windows whose spectrograms are in memory together.
CHUNK_WINDOWS = 64


@dataclass(frozen=True)
class DetectedEvent:
    """A class is in a recording from `start` to `end`, in seconds."""

    start: float
    end: float
    label: str
    probability: float
    """Maximum within the event."""


@dataclass(frozen=True)
class WindowProbabilities:
    """Class probabilities of all N windows of a recording."""

    recording: Recording
    """Length and sample rate of the recording."""
    window: float
    """Length of a window in seconds."""
    hop: float
    """Distance between the starts of windows in seconds; the first is at 0."""
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    """float32 `[shape=(N, C)]`; NaN for windows that cannot be read."""
    thresholds: np.ndarray
    """Probability from which on a class is an event `[shape=(C,)]`."""

    @property
    def starts(self) -> np.ndarray:
        """First second of each window `[shape=(N,)]`."""
        return np.round(np.arange(len(self.probabilities)) * self.hop, 3)

    def events(self) -> list[DetectedEvent]:
        """Return the spans in which a class is above its threshold, sorted by start."""
        starts = self.starts.tolist()
        events = merge_events(
            starts, self.window, self.probabilities, self.thresholds, self.hop, self.recording.seconds
        )
        return [
            DetectedEvent(event.start, event.end, self.class_names[event.label], event.probability)
            for event in events
        ]


class SoundClassifier:
    """A trained classifier, an ensemble, or the models of a cross-validation, which then predict together."""

    def __init__(
        self,
        run: str | Path,
        device: Device = "auto",
        tta_shifts: int = 1,
        precision: Precision = "fp32",
    ):
        """Load the model of a run.

        Args:
            run: folder of the run.
            device: auto is a GPU if there is one; cpu; or cuda, a GPU.
            tta_shifts: circular time shifts to average over (test-time augmentation); 1 is none.
            precision: numeric precision of the network.

        Raises:
            UserError: an unusable run, or `cuda` without a GPU.
        """
        self._device = process_device(device)
        self._tta_shifts, self._precision = tta_shifts, precision
        predictor = load_predictor(Path(run))
        self._model = predictor.model.to(self._device)
        self.metadata = predictor.metadata
        """Classes, settings of spectrograms, and facts about the training."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes, in the order of the probabilities."""
        return self.metadata.class_names

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz that audio is converted to."""
        return self.metadata.features.mel.sample_rate

    @property
    def seconds(self) -> float:
        """Clip length of the model in seconds."""
        return self.metadata.features.seconds

    @property
    def multi_label(self) -> bool:
        """Whether a clip has any number of classes, so that each has a probability of its own."""
        return self.metadata.multi_label

    def classify(
        self, source: ClipSource, windows: int = 1, on_warning: OnWarning = ignore_warning
    ) -> np.ndarray:
        """Return the probability of each class for an audio file as a whole, float32 `[shape=(C,)]`.

        Args:
            source: path or URI of an audio file, or its content as bytes.
            windows: average over up to this many windows of a longer file; 1 uses its center.
            on_warning: called with each reason why the samples may not be what they should be.

        Raises:
            AudioDecodeError: the file has no usable audio.
            UserError: its object store cannot be reached.
        """
        samples = load_clip(source, self.metadata.features, on_warning=on_warning)
        return self._classify_samples(samples, windows)

    def classify_samples(self, samples: np.ndarray, sample_rate: float, windows: int = 1) -> np.ndarray:
        """Return the probability of each class for samples, float32 `[shape=(C,)]`.

        Args:
            samples: mono, full scale is 1 `[shape=(num_samples,)]`.
            sample_rate: their rate in Hz.
            windows: as for `classify`.

        Raises:
            ValueError: no samples, several channels, or values that are not finite.
        """
        samples = np.asarray(samples, np.float32)
        if samples.ndim != 1 or not samples.size or not np.isfinite(samples).all():
            raise ValueError(f"expected finite mono samples (num_samples,), got shape {samples.shape}")
        samples = resample(samples, sample_rate, self.sample_rate)
        trim_db = self.metadata.features.trim_db
        return self._classify_samples(samples if trim_db is None else trim_silence(samples, trim_db), windows)

    def _classify_samples(self, samples: np.ndarray, windows: int) -> np.ndarray:
        features = self.metadata.features
        parts = split_windows(samples, features, windows)
        mean: np.ndarray = self.classify_mels(np.stack([spectrogram(part, features) for part in parts])).mean(
            0
        )
        return mean

    def classify_mels(self, mels: np.ndarray) -> np.ndarray:
        """Return the probabilities of spectrograms in dB `[shape=(N, n_mels, num_frames)]`.

        Returns:
            float32 `[shape=(N, C)]`.
        """
        return predict_probabilities(self._model, mels, self._tta_shifts, self._precision, self._device)

    def classify_windows(
        self,
        source: ClipSource,
        hop: float | None = None,
        threshold: float | None = None,
        on_warning: OnWarning = ignore_warning,
        show_progress: bool = False,
    ) -> WindowProbabilities:
        """Return the probabilities of all windows of a recording of any length, which is read in pieces.

        Args:
            source: path or URI of the recording, or its content as bytes.
            hop: seconds between the starts of windows, which have the model's clip length (default: half).
            threshold: probability from which on a class is an event (default: those of the model, or 0.5).
            on_warning: as for `classify`.
            show_progress: whether to show progress, rate and time left on standard error.

        Raises:
            AudioDecodeError: nothing of the recording can be read.
            UserError: its object store cannot be reached.
            ValueError: a hop that is not positive.
        """
        hop = self.seconds / 2 if hop is None else hop
        if hop <= 0:
            raise ValueError(f"hop {hop:g}: must be greater than 0")
        recording = read_recording(source)
        starts = window_starts(recording.seconds, self.seconds, hop)
        probabilities = np.full((len(starts), len(self.class_names)), np.nan, np.float32)
        outcomes = read_windows(source, starts, self.seconds, self.sample_rate, on_warning=on_warning)
        with closing(outcomes), _progress(len(starts), show_progress) as add:
            for chunk in batch_slices(len(starts), CHUNK_WINDOWS):
                part = probabilities[chunk]
                self._classify_chunk(outcomes, part)
                add(len(part))
        thresholds = self.metadata.class_thresholds(threshold)
        return WindowProbabilities(recording, self.seconds, hop, self.class_names, probabilities, thresholds)

    def _classify_chunk(self, outcomes: Iterator[np.ndarray | Exception], probabilities: np.ndarray) -> None:
        """Classify as many windows as there are rows of probabilities, and fill in those of readable ones."""
        rows, mels = [], []
        for row in range(len(probabilities)):
            samples = next(outcomes)
            if isinstance(samples, np.ndarray):
                rows.append(row)
                mels.append(spectrogram(samples, self.metadata.features))
        if rows:
            probabilities[rows] = self.classify_mels(np.stack(mels))


@contextmanager
def _progress(windows: int, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """Show the progress of so many windows if wanted; yield a function that adds windows that are done."""
    if not is_shown:
        yield lambda count: None
        return
    with Progress("classifying", windows, "windows") as progress:
        yield progress.add
        progress.finish()

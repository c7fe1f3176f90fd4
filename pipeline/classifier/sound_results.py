"""Results of `SoundClassifier`: the classes of a clip, and those of all windows of a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.audio.mel import MelConfig
from pipeline.audio.recordings import Recording
from pipeline.classifier.windows.events import merge_events
from pipeline.io.arguments import check_integer
from pipeline.io.console import duration
from pipeline.io.text import plural

# Classes with the highest probabilities that the representation of a result shows.
SHOWN_CLASSES = 5


@dataclass(frozen=True, repr=False)
class Prediction:
    """Class probabilities of a clip, with its sound. A notebook shows it with spectrogram and player."""

    file: str
    """Path or URI of the clip; empty for samples."""
    class_names: tuple[str, ...]
    probabilities: np.ndarray
    """float32 `[shape=(C,)]`."""
    labels: tuple[str, ...]
    """The class with the highest probability; of a multi-label model all classes above their thresholds."""
    mel: np.ndarray
    """Spectrogram of the center of the clip in dB, float16 `[shape=(n_mels, num_frames)]`."""
    samples: np.ndarray
    """What it was computed from, at `sample_rate`, float32 in [-1, 1] `[shape=(num_samples,)]`."""
    mel_config: MelConfig
    """Settings of the spectrogram."""
    warnings: tuple[str, ...] = ()
    """Reasons why the samples may not be what they should be, such as `clipped`."""

    @property
    def label(self) -> str:
        """The class with the highest probability."""
        return self.class_names[int(self.probabilities.argmax())]

    @property
    def probability(self) -> float:
        """Highest probability of a class."""
        return float(self.probabilities.max())

    @property
    def sample_rate(self) -> int:
        """Sample rate of `samples` in Hz."""
        return self.mel_config.sample_rate

    def top(self, count: int = SHOWN_CLASSES) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, highest first.

        Raises:
            ValueError: a count below 1.
        """
        count = check_integer("count", count, 1)
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.class_names[i], float(self.probabilities[i])) for i in order]

    def __repr__(self) -> str:
        classes = ", ".join(f"{name} {probability:.1%}" for name, probability in self.top(3))
        return f"<Prediction{f' of {self.file}' if self.file else ''}: {classes}>"

    def _repr_html_(self) -> str:
        from pipeline.report.notebook import clip_html

        title = f"{self.file.rpartition('/')[2]}: {self.label}".removeprefix(": ")
        return clip_html(title, self.mel, self.mel_config, self.samples, self.top())


@dataclass(frozen=True)
class DetectedEvent:
    """A class is in a recording from `start` to `end`, in seconds."""

    start: float
    end: float
    label: str
    probability: float
    """Maximum within the event."""


@dataclass(frozen=True, repr=False)
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
    embeddings: np.ndarray | None = None
    """If requested, the clip embedding of each window, float32 `[shape=(N, K)]`; NaN as probabilities."""

    @property
    def starts(self) -> np.ndarray:
        """First second of each window `[shape=(N,)]`."""
        return np.round(np.arange(len(self.probabilities)) * self.hop, 3)

    @property
    def table(self) -> pd.DataFrame:
        """Probabilities: a row per window, indexed by its start in seconds, and a column per class."""
        index = pd.Index(self.starts, name="start")
        return pd.DataFrame(self.probabilities, index=index, columns=list(self.class_names))

    @property
    def event_table(self) -> pd.DataFrame:
        """The events as a table with the columns start, end, label and probability."""
        columns = ["start", "end", "label", "probability"]
        return pd.DataFrame([vars(event) for event in self.events()], columns=columns)

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

    def __repr__(self) -> str:
        windows = f"{plural(len(self.probabilities), 'window')} of {self.window:g} s every {self.hop:g} s"
        events = plural(len(self.events()), "event")
        return f"<WindowProbabilities of {duration(self.recording.seconds)}: {windows}, {events}>"

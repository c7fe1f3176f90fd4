"""What is sent between the HTTP server and the replicas of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rejection:
    """Why a request has no result: returned rather than raised, as an error would be Ray's own."""

    status: int
    """HTTP status."""
    reason: str
    """One line."""


@dataclass(frozen=True)
class Sound:
    """A sound to classify."""

    name: str
    """Name of its file, without folders; empty if unknown."""
    content: bytes = field(repr=False)
    hop: float | None = None
    """Seconds between the starts of windows; None: as its length requires."""
    wants_image: bool = False
    """Whether an image of the spectrogram is wanted."""
    wants_embeddings: bool = False
    """Whether clip embeddings are wanted."""


@dataclass(frozen=True)
class SoundImage:
    """Spectrogram of a whole sound without axes: low frequencies below, linear on the mel scale."""

    png: str
    """As a data URI."""
    seconds: float
    """From the left edge to the right."""


@dataclass(frozen=True)
class WindowScores:
    """Class probabilities of N windows."""

    seconds: float
    """Length of a window."""
    hop: float
    starts: list[float]
    probabilities: np.ndarray
    """float32 `[shape=(N, C)]`; NaN for windows that cannot be read."""
    embeddings: np.ndarray | None = None
    """float32 `[shape=(N, K)]`; NaN as above. None: not requested."""


@dataclass(frozen=True)
class Classification:
    """Result for a sound."""

    seconds: float
    """Its length."""
    probabilities: np.ndarray
    """Of each class in the sound as a whole, float32 `[shape=(C,)]`."""
    windows: WindowScores | None = None
    """None: it was classified as a whole."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """Start and end in seconds, label and probability of each span with a class."""
    warnings: list[str] = field(default_factory=list)
    image: SoundImage | None = None
    embedding: np.ndarray | None = None
    """Of the sound as a whole, the mean over windows, float32 `[shape=(K,)]`. None: not requested."""


@dataclass(frozen=True)
class ServedClip:
    """A generated clip, or a real one of a dataset."""

    wav: bytes = field(repr=False)
    png: bytes = field(repr=False)
    """Image of its spectrogram without axes."""
    predicted_label: str = ""
    """Class that the reference classifier predicts; empty without one."""
    confidence: float = float("nan")
    """Its probability of the requested class; NaN without one."""

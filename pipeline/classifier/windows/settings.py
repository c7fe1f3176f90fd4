"""Grid of the windows of a prediction, and thresholds of events, by the settings and the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.classifier.windows.config import Pool, WindowOutputConfig
from pipeline.io.errors import UserError
from pipeline.training.model_file import ClassifierMetadata


@dataclass(frozen=True)
class WindowSettings:
    """Grid of the windows of all recordings, and what they are used for."""

    window: float
    """Length of a window in seconds."""
    hop: float
    """Distance between the starts of windows in seconds."""
    pool: Pool
    thresholds: np.ndarray
    """Probability from which on each class is part of an event `[shape=(C,)]`, float64."""


def window_settings(config: WindowOutputConfig, metadata: ClassifierMetadata) -> WindowSettings | None:
    """Return the windows that a model is to predict; None for whole clips.

    Raises:
        UserError: a window that is not as long as the clips of the model, gaps between windows, or a
            threshold that nothing uses.
    """
    if not config.windowed:
        if config.threshold is not None and not metadata.multi_label:
            raise UserError(f"--threshold {config.threshold:g} needs --window, or a multi-label model")
        return None
    seconds = metadata.features.seconds
    window = seconds if config.window is None else config.window
    hop = window if config.hop is None else config.hop
    if abs(window - seconds) > 1e-6:
        raise UserError(f"--window {window:g}: the model was trained on clips of {seconds:g} s")
    check_gaps(hop, window)
    default: Pool = "max" if metadata.multi_label else "mean"
    return WindowSettings(window, hop, config.pool or default, metadata.class_thresholds(config.threshold))


def check_gaps(hop: float, window: float) -> None:
    """Check that windows reach the next one: an event could otherwise span what no window has seen.

    Raises:
        UserError: they do not.
    """
    if hop > window:
        raise UserError(f"--hop {hop:g}: leaves gaps between windows of {window:g} s; lower it to {window:g}")


def label_thresholds(metadata: ClassifierMetadata, threshold: float | None) -> tuple[float, ...] | None:
    """Return the thresholds of the labels of a multi-label model; None for one label per clip."""
    return tuple(metadata.class_thresholds(threshold).tolist()) if metadata.multi_label else None

"""Windows of `melray predict`: their grid, thresholds of events, and how windows become a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from models.config import Config
from pipeline.data.windows import MIN_HOP
from pipeline.io.errors import UserError
from pipeline.io.storage import PathOrURI
from pipeline.training.model_file import ClassifierMetadata

Pool = Literal["mean", "max", "noisy-or"]


class WindowOutputConfig(Config):
    """Predictions of all windows of recordings."""

    window: float | None = Field(None, gt=0, le=600)
    """Predict every window of this many seconds, which is the clip length of the model; writes also
    windows.csv, windows.parquet, events.csv, raven/ and audacity/."""
    hop: float | None = Field(None, ge=MIN_HOP, le=600)
    """Seconds from the start of a window to that of the next one (default: `--window`); alone it stands for
    windows of the model's clip length. `show` and `serve` have half of that length as their default."""
    threshold: float | None = Field(None, gt=0, le=1)
    """Probability from which on a class is present: in events, and in the labels of a multi-label model
    (default: those of the model, else 0.5)."""
    pool: Pool | None = None
    """Prediction of a recording from those of its windows: mean, max or noisy-or, 1 - product of 1 - p
    (default: mean, or max of a multi-label model)."""
    annotations: Literal["auto"] | PathOrURI | None = None
    """Annotated events, by which those that are detected are scored (event_scores.json, event_scores.csv): a
    table, a folder, or `auto`, as for `melray extract`; for a single recording its annotation file."""
    label_column: str | None = None
    """Column of the classes in the annotations (default: as for `melray extract`)."""
    row_id: str | None = None
    """Pattern of the ids in submission.csv, one for each window, such as {stem}_{end}; fields: stem, name,
    id, start, end (default: as in the sample submission, else a row for each recording)."""

    @property
    def windowed(self) -> bool:
        """Whether every window of a recording gets a prediction."""
        return self.window is not None or self.hop is not None

    @model_validator(mode="after")
    def _check_windowed(self) -> WindowOutputConfig:
        for name in ("pool", "row_id", "annotations"):
            value = getattr(self, name)
            if value is not None and not self.windowed:
                raise ValueError(f"--{name.replace('_', '-')} {value} needs --window")
        if self.label_column is not None and self.annotations is None:
            raise ValueError(f"--label-column {self.label_column} needs --annotations")
        return self


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

"""Settings of `melray predict` for windows: their grid, thresholds, and how they become a prediction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from models.config import Config
from pipeline.data.windows import MIN_HOP
from pipeline.io.storage import PathOrURI

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

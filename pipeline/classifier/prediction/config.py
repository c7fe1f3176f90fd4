"""Settings of `melray predict`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from models.config import as_tuple
from pipeline.audio.decode import DecodeConfig
from pipeline.classifier.submission.settings import SubmissionValues
from pipeline.classifier.windows.config import WindowOutputConfig
from pipeline.data.published.card_settings import CardSettings
from pipeline.distributed.devices import DeviceConfig
from pipeline.io.storage import PathOrURI


class PredictConfig(DecodeConfig, DeviceConfig, WindowOutputConfig, CardSettings):
    """Classify unlabeled audio files."""

    run: PathOrURI
    """Folder of a trained run, or of a cross-validation, whose models then predict together."""
    audio: Annotated[tuple[PathOrURI, ...], BeforeValidator(as_tuple)]
    """Folder of audio files, searched recursively; ids are relative paths. Also audio files, a CSV with a
    column `path`, a text file with a path in each line, or Parquet files with the audio inside; one row of
    these as `FILE.parquet#17`, counted from 0."""
    out: PathOrURI
    """Folder for submission.csv, predictions.parquet and rejected.csv. Rerun to resume."""
    sample_submission: PathOrURI | None = None
    """CSV whose columns, ids and row order submission.csv follows."""
    submission_values: SubmissionValues = "auto"
    """Values of submission.csv: label, labels (several in each row, as in the sample), index (position of the
    class in sorted order) or probability; auto follows the sample submission."""
    positive_class: str = ""  # not None, which the name of a class can be
    """Class of a single column of probabilities."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Test-time augmentation: circular time shifts to average over."""
    windows: int = Field(1, ge=1, le=1000)
    """Split longer clips into at most N windows and average; 1 uses the center crop, as evaluation does. Not
    for `--window`, which predicts all windows."""
    embeddings: bool = False
    """Add a column `embedding` to predictions.parquet, with --window to windows.parquet: what the classes are
    computed from, to search for similar sounds, group them, or train other models on."""
    workers: int | None = Field(None, ge=1)
    """Parallel workers (default: one per CPU, or one per GPU; with GPUs, CPUs compute the spectrograms)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numeric precision of the network; with fp32 scores do not depend on how files are batched."""

    @model_validator(mode="after")
    def _check_windows(self) -> PredictConfig:
        if self.windowed and self.windows != 1:
            raise ValueError(f"--windows {self.windows} is for whole clips: drop it, or --window and --hop")
        return self

"""Prediction: unlabeled audio files to `submission.csv`, as a batch job on a Ray cluster.

A work unit of clips becomes one table of predictions in `OUT/.parts` (`pipeline/distributed/batch_job.py`);
the tables are merged at the end. There are two stages: decode and extract spectrograms, then apply the model.
Both run in the same task, or with GPUs in CPU tasks and GPU actors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from pipeline.audio.decode import AudioDecodeError, DecodeConfig
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram, split_windows
from pipeline.classifier.inference import class_priors, predict_probabilities
from pipeline.classifier.submission import read_sample, submission
from pipeline.data.manifest import read_unlabeled
from pipeline.data.shards import (
    REJECTED_NAME,
    WARNINGS_NAME,
    ClipWarning,
    Rejected,
    rejected_csv,
    warnings_csv,
)
from pipeline.distributed.batch_job import BatchJob, Runner, StageBuilder, WorkUnit
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.distributed.worker import CLIP_TIMEOUT_S
from pipeline.io.console import logger
from pipeline.io.errors import report_os_errors
from pipeline.io.files import write_atomically, write_text_atomically
from pipeline.io.storage import PathOrURI, pyarrow_source
from pipeline.training.model_file import load_classifier, model_digest

CLIPS_PER_UNIT = 32


class PredictConfig(DecodeConfig, AutoscalingConfig):
    """Classify unlabeled audio files."""

    run: PathOrURI
    """Folder of the trained run."""
    audio: PathOrURI
    """Folder of audio files, searched recursively; ids are relative paths."""
    out: PathOrURI
    """Folder for submission.csv, predictions.parquet and rejected.csv. Rerun to resume."""
    sample_submission: PathOrURI | None = None
    """CSV whose columns, ids and row order submission.csv follows."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Test-time augmentation: circular time shifts to average over."""
    windows: int = Field(1, ge=1, le=1000)
    """Split longer clips into at most N windows and average; 1 uses the center crop, as evaluation does."""
    workers: int | None = Field(None, ge=1)
    """Parallel workers (default: one per CPU, or one per GPU)."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs per worker; spectrograms are then computed by separate CPU tasks."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numeric precision of the network; with fp32 scores do not depend on how files are batched."""


def predict(config: PredictConfig, runner: Runner | None = None) -> pd.DataFrame:
    """Write the submission and all probabilities; return the table of predictions, sorted by id.

    `runner` runs the work units, by default on the cluster.

    Raises:
        UserError: an unusable run, no audio files, a sample submission with unknown ids, too few resources,
            or a full disk.
    """
    metadata = load_classifier(config.run).metadata
    sample = None if config.sample_submission is None else read_sample(config.sample_submission)
    job = plan_job(config)
    stages: list[StageBuilder] = [
        partial(SpectrogramReader, metadata.features, config.windows, CLIP_TIMEOUT_S, config.min_complete),
        partial(Predictor, config),
    ]
    job.run(stages, runner or RayRunner(config.wait_for_nodes, config.workers, config.gpus_per_worker))
    with report_os_errors("writing to", config.out):
        table = merge_predictions(job.units, config.out)
        result = submission(table, metadata.class_names, sample)
        write_text_atomically(config.out / "submission.csv", result.to_csv(index=False, lineterminator="\n"))
        job.clean_up()
    unreadable = int((table["reason"] != "").sum())
    if unreadable:
        logger.warning(
            "%d unreadable files were assigned the most frequent class; see %s",
            unreadable,
            config.out / REJECTED_NAME,
        )
    doubtful = int((table["warning"] != "").sum())
    if doubtful:
        logger.warning("%d files were read with a warning; see %s", doubtful, config.out / WARNINGS_NAME)
    print(f"{len(table)} predictions\nsubmission: {config.out / 'submission.csv'}", flush=True)
    return table


def plan_job(config: PredictConfig) -> BatchJob:
    """Plan a prediction, with outputs that are determined by the audio files, the model and the settings."""
    return BatchJob(
        "predicting",
        read_unlabeled(config.audio),
        CLIPS_PER_UNIT,
        settings=[
            model_digest(config.run),
            config.tta_shifts,
            config.windows,
            config.precision,
            config.min_complete,
        ],
        folder=config.out / ".parts",
    )


@dataclass
class UnitSpectrograms:
    """Spectrograms of a work unit; those of one clip are adjacent."""

    clips: list[dict[str, Any]]
    reasons: list[str] = field(default_factory=list)
    """Why a clip is unreadable, for each clip; empty for readable ones."""
    warnings: list[str] = field(default_factory=list)
    """Why the samples of a clip may not be what they should be, for each clip; empty for most."""
    window_counts: list[int] = field(default_factory=list)
    """Number of windows, for each readable clip."""
    mels: list[np.ndarray] = field(default_factory=list)
    """Spectrogram of each window, float16 in dB `[shape=(n_mels, num_frames)]`."""


class SpectrogramReader:
    """First stage: decodes the clips of a work unit and extracts their spectrograms."""

    def __init__(
        self,
        features: FeatureConfig,
        max_windows: int,
        clip_timeout_s: float = 0.0,
        min_complete: float = DecodeConfig().min_complete,
    ):
        """Set the time limit of a clip, after which the process exits, in seconds; 0 disables it."""
        self._features, self._max_windows = features, max_windows
        self._clip_timeout_s, self._min_complete = clip_timeout_s, min_complete

    def __call__(self, unit: WorkUnit) -> UnitSpectrograms:
        """Read the clips of a unit.

        Raises:
            OSError: the clip list cannot be read.
        """
        result = UnitSpectrograms(unit.read_clips())
        with CrashQuarantine(unit.folder, unit.name, self._clip_timeout_s) as quarantine:
            for clip in result.clips:
                texts: list[str] = []
                try:
                    mels = self._read(clip["path"], texts) if quarantine.begin(clip["clip_id"]) else None
                    reason = CRASH_REASON if mels is None else ""
                except AudioDecodeError as error:
                    mels, reason = None, str(error)
                result.reasons.append(reason)
                result.warnings.append("" if reason else "; ".join(texts))
                if mels is not None:
                    result.window_counts.append(len(mels))
                    result.mels += mels
        quarantine.end()
        return result

    def _read(self, path: str, texts: list[str]) -> list[np.ndarray]:
        samples = load_clip(path, self._features, self._min_complete, texts.append)
        windows = split_windows(samples, self._features, self._max_windows)
        return [spectrogram(window, self._features) for window in windows]


class Predictor:
    """Second stage: applies the model to the spectrograms of a work unit, and writes the predictions."""

    def __init__(self, config: PredictConfig):
        """Load the model."""
        self._config = config
        self._device = torch.device("cuda" if config.gpus_per_worker else "cpu")
        self._saved = load_classifier(config.run)
        self._saved.model.to(self._device)
        if not config.gpus_per_worker:
            torch.set_num_threads(1)

    def __call__(self, unit: WorkUnit, spectrograms: UnitSpectrograms) -> None:
        """Write the predictions of a unit.

        Raises:
            OSError: the table cannot be written.
        """
        class_names = self._saved.metadata.class_names
        probabilities = self._predict(spectrograms)
        table = pa.table(
            {
                "id": [clip["clip_id"] for clip in spectrograms.clips],
                "label": [class_names[i] for i in probabilities.argmax(1)],
                "path": [clip["path"] for clip in spectrograms.clips],
                "reason": spectrograms.reasons,
                "warning": spectrograms.warnings,
            }
            | {f"p:{name}": probabilities[:, i] for i, name in enumerate(class_names)}
        )
        write_atomically(unit.path, lambda file: pq.write_table(table, file))

    def _predict(self, spectrograms: UnitSpectrograms) -> np.ndarray:
        """Return class probabilities `[shape=(N, C)]`: means over windows, or class priors if unreadable."""
        probabilities = np.tile(class_priors(self._saved), (len(spectrograms.clips), 1))
        readable = [not reason for reason in spectrograms.reasons]
        if any(readable):
            window_probs = predict_probabilities(
                self._saved.model,
                np.stack(spectrograms.mels),
                self._config.tta_shifts,
                self._config.precision,
                self._device,
            )
            counts = spectrograms.window_counts
            starts = np.cumsum([0, *counts[:-1]])
            sums = np.add.reduceat(window_probs, starts)
            probabilities[readable] = sums / np.array(counts, np.float32)[:, None]
        return probabilities


def merge_predictions(units: list[WorkUnit], out: Path) -> pd.DataFrame:
    """Merge the tables of all units into `predictions.parquet`, `rejected.csv` and `warnings.csv`.

    Each id is listed once.
    """
    table = pa.concat_tables([pq.read_table(pyarrow_source(unit.path), partitioning=None) for unit in units])
    write_atomically(out / "predictions.parquet", lambda file: pq.write_table(table, file))
    frame = table.to_pandas()
    unreadable = frame[frame["reason"] != ""]
    rejected = [Rejected(*clip) for clip in unreadable[["id", "path", "reason"]].itertuples(index=False)]
    write_text_atomically(out / REJECTED_NAME, rejected_csv(rejected))
    doubtful = frame[frame["warning"] != ""]
    warnings = [ClipWarning(*clip) for clip in doubtful[["id", "path", "warning"]].itertuples(index=False)]
    write_text_atomically(out / WARNINGS_NAME, warnings_csv(warnings))
    return frame

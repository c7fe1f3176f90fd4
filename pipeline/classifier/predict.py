"""Prediction: unlabelled audio files to `submission.csv`, as a Ray Data batch job.

Like an extraction, the job is cut into units; an actor, which loads the model once, turns each into one part below
`OUT/.parts`, named by all that went into it. So a job that was broken off goes on where it stopped, and the driver holds
names and counts only until it joins the parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field

from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram, split_windows
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.submission import read_sample, submission
from pipeline.data.manifest import read_unlabelled
from pipeline.data.shards import REJECTED_NAME, Rejected, rejected_csv
from pipeline.distributed.batch_job import (
    WorkUnit,
    actor_pool,
    dataset_of_units,
    iter_single_stage,
    make_work_units,
    read_unit_clips,
)
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine, clear_quarantine
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.distributed.worker import CLIP_TIMEOUT_S, disable_malloc_trim
from pipeline.io.console import Progress
from pipeline.io.errors import UserError, explain_os_error, report_os_errors
from pipeline.io.files import write_atomically, write_text_atomically
from pipeline.io.storage import PathOrURI, pyarrow_source, remove_tree
from pipeline.training.model_file import MODEL_NAME, SavedClassifier, load_classifier

CLIPS_PER_UNIT = 32


class PredictConfig(AutoscalingConfig):
    """Says what unlabelled sounds are."""

    run: PathOrURI
    """Folder of the trained run."""
    audio: PathOrURI
    """Folder of audio files, however deep; a file's id is its path below it."""
    out: PathOrURI
    """Folder for submission.csv, predictions.parquet and rejected.csv."""
    sample_submission: PathOrURI | None = None
    """CSV whose columns, ids and order submission.csv takes over."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Averages the prediction over so many turns of each clip in time."""
    windows: int = Field(1, ge=1, le=1000)
    """Cuts a clip longer than the features' length into up to so many windows and averages; 1 takes its middle, as evaluation does."""
    workers: int | None = Field(None, ge=1)
    """Actors that predict side by side; by default one a CPU, or one a GPU."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs of each actor; with one, features come from CPU tasks beside it."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the network; fp32 gives scores that do not depend on how files are batched."""


def predict(config: PredictConfig) -> pd.DataFrame:
    """Writes the submission and all probabilities; returns the table of predictions, sorted by id.

    Raises:
        UserError: an unusable run, no audio, a sample whose ids are not there, a full disk.
    """
    saved = load_classifier(config.run)
    sample = None if config.sample_submission is None else read_sample(config.sample_submission)
    clips = read_unlabelled(config.audio)
    parts = config.out / ".parts"
    with report_os_errors("creating", config.out):
        parts.mkdir(parents=True, exist_ok=True)
    units = plan_units(clips, config)
    pending = [unit for unit in units if not (parts / unit.name).is_file()]
    progress = Progress(
        "predicting", len(clips), "clips", done=len(clips) - sum(unit.clips for unit in pending)
    )
    del clips
    for count in run_units(pending, config, saved.card.features) if pending else ():
        progress.add(count)
    progress.finish()
    with report_os_errors("writing to", config.out):
        table = merge_predictions(parts, units, config.out)
        answer = submission(table, saved.card.class_names, sample)
        write_text_atomically(config.out / "submission.csv", answer.to_csv(index=False, lineterminator="\n"))
        remove_tree(parts)
        clear_quarantine(config.out)
    refused = int((table["reason"] != "").sum())
    note = (
        f" ({refused} unreadable files got the most frequent class, see {config.out / REJECTED_NAME})"
        if refused
        else ""
    )
    print(f"{len(table)} predictions{note}\nsubmission: {config.out / 'submission.csv'}", flush=True)
    return table


def plan_units(clips: pd.DataFrame, config: PredictConfig) -> list[WorkUnit]:
    """Cuts the files into units named by their content, the model and the settings."""
    model = hashlib.sha256((config.run / MODEL_NAME).read_bytes()).hexdigest()
    return make_work_units(
        clips,
        CLIPS_PER_UNIT,
        [model, config.tta_shifts, config.windows, config.precision],
        config.out / ".parts",
    )


def run_units(units: list[WorkUnit], config: PredictConfig, features: FeatureConfig) -> Iterator[int]:
    """Lets Ray Data predict the units; yields the clips of each as it is written.

    Raises:
        UserError: more actors than the cluster has room for, or a part that can't be written.
    """
    gpus = config.gpus_per_worker
    pool = actor_pool(config.workers, len(units), config.wait_for_nodes, gpus)
    data = dataset_of_units(units)
    setup = {"config": config, "patience": CLIP_TIMEOUT_S}
    if gpus:
        data = data.map(add_spectrograms, fn_kwargs={**setup, "features": features})
        data = data.map(Predictor, fn_constructor_kwargs=setup, compute=pool, num_gpus=gpus)
    else:
        data = data.map(Predictor, fn_constructor_kwargs=setup, compute=pool)
    for row in data.iter_rows() if gpus else iter_single_stage(data):
        if row["fault"]:
            raise UserError(row["fault"])
        yield row["clips"]


def add_spectrograms(
    row: dict[str, Any], config: PredictConfig, features: FeatureConfig, patience: float = 0.0
) -> dict[str, Any]:
    """Adds to a unit its clips, the spectrograms of the usable ones, as bytes, how many each has, and the reasons of the others.

    A process that is at one clip for `patience` seconds ends itself.
    """
    mels: list[np.ndarray] = []
    counts, reasons = [], []
    clips = read_unit_clips(row)
    with CrashQuarantine(config.out, row["name"], patience) as attempts:
        for clip in clips:
            if not attempts.begin(clip["clip_id"]):
                reasons.append(CRASH_REASON)
                continue
            try:
                of_clip = [
                    spectrogram(part, features)
                    for part in split_windows(load_clip(clip["path"], features), features, config.windows)
                ]
            except AudioDecodeError as error:
                reasons.append(str(error))
                continue
            mels += of_clip
            counts.append(len(of_clip))
            reasons.append("")
    attempts.end()
    values = np.stack(mels) if mels else np.zeros((0, *features.shape), np.float16)
    told = {"clips": clips, "counts": counts, "reasons": reasons}
    return {**row, "mels": values.tobytes()} | {name: json.dumps(value) for name, value in told.items()}


class Predictor:
    """An actor that holds the model and turns units into parts."""

    def __init__(self, config: PredictConfig, patience: float = 0.0):
        disable_malloc_trim()
        self._config, self._patience = config, patience
        self._device = torch.device("cuda" if config.gpus_per_worker else "cpu")
        self._saved = load_classifier(config.run)
        self._saved.model.to(self._device)
        if not config.gpus_per_worker:
            torch.set_num_threads(1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Writes the part of one unit; returns its count of clips, or the fault that kept it from being written."""
        path = self._config.out / ".parts" / row["name"]
        try:
            if "mels" not in row:
                row = add_spectrograms(row, self._config, self._saved.card.features, self._patience)
            clips = self._write(path, row)
        except OSError as error:
            return {"clips": 0, "fault": explain_os_error(error, f"writing {path}")}
        return {"clips": clips, "fault": ""}

    def _write(self, path: Path, row: dict[str, Any]) -> int:
        clips, reasons, counts = (json.loads(row[name]) for name in ("clips", "reasons", "counts"))
        mels = np.frombuffer(row["mels"], np.float16).reshape(-1, *self._saved.card.features.shape)
        table = self._table(clips, reasons, mels, counts)
        write_atomically(path, lambda file: pq.write_table(table, file))
        return len(clips)

    def _table(
        self, clips: list[dict[str, Any]], reasons: list[str], mels: np.ndarray, counts: list[int]
    ) -> pa.Table:
        names = self._saved.card.class_names
        probabilities = np.tile(class_priors(self._saved), (len(clips), 1))
        good = [not reason for reason in reasons]
        if any(good):
            config = self._config
            of_windows = predict_probabilities(
                self._saved.model, mels, config.tta_shifts, config.precision, self._device
            )
            starts = np.cumsum([0, *counts[:-1]])
            probabilities[good] = np.add.reduceat(of_windows, starts) / np.array(counts, np.float32)[:, None]
        return pa.table(
            {
                "id": [clip["clip_id"] for clip in clips],
                "label": [names[i] for i in probabilities.argmax(1)],
                "path": [clip["path"] for clip in clips],
                "reason": reasons,
            }
            | {f"p:{name}": probabilities[:, i] for i, name in enumerate(names)}
        )


def class_priors(saved: SavedClassifier) -> np.ndarray:
    """How frequent each class was in training `[shape=(C,)]`, float32: what is said of a file that can't be read."""
    counts = saved.card.training.get("class_counts") or {}
    values = np.array([counts.get(name, 1) for name in saved.card.class_names], np.float32)
    return values / values.sum()


def merge_predictions(parts: Path, units: list[WorkUnit], out: Path) -> pd.DataFrame:
    """Writes `predictions.parquet` and `rejected.csv` from all parts; each id stands there once."""
    tables = [pq.read_table(pyarrow_source(parts / unit.name), partitioning=None) for unit in units]
    table = pa.concat_tables(tables)
    write_atomically(out / "predictions.parquet", lambda file: pq.write_table(table, file))
    frame = table.to_pandas()
    refused = frame[frame["reason"] != ""]
    rejected = [Rejected(*item) for item in refused[["id", "path", "reason"]].itertuples(index=False)]
    write_text_atomically(out / REJECTED_NAME, rejected_csv(rejected))
    return frame

"""Prediction: unlabeled audio files to `submission.csv`, as a batch job on a Ray cluster.

A work unit of clips becomes one table of predictions in `OUT/.parts` (`pipeline/distributed/batch_job.py`);
the tables are merged at the end. The stages are in `pipeline/classifier/predict_stages.py`. The submission is
planned first: a sample submission that does not fit the audio files fails before anything is predicted.

Units are larger for GPUs, which one of 32 clips does not keep busy. Their size is recorded in `OUT/.parts`,
and the device is not part of their names: an interrupted job that is resumed on other devices keeps its
tables, whose probabilities differ by rounding errors only.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow.parquet as pq
from pydantic import BeforeValidator, Field

from pipeline.audio.cpu_time import clip_seconds
from pipeline.audio.decode import DecodeConfig
from pipeline.classifier.merge import SUBMISSION_NAME, MergedPredictions, merge_predictions
from pipeline.classifier.predict_stages import Predictor, SpectrogramReader
from pipeline.classifier.predictions import PREDICTIONS_NAME, UNIT_FORMAT
from pipeline.classifier.predictor_model import PredictorModel, load_predictor, predictor_digest
from pipeline.classifier.sample_submission import read_sample
from pipeline.classifier.submission import SubmissionPlan, plan_submission
from pipeline.classifier.submission_values import SubmissionValues
from pipeline.data.clips import shown
from pipeline.data.manifest import Manifest, read_unlabeled
from pipeline.data.shards import REJECTED_NAME, WARNINGS_NAME
from pipeline.distributed.batch_job import BatchJob, Runner, StageBuilder
from pipeline.distributed.devices import DeviceConfig, resolve_gpus, worker_device
from pipeline.distributed.execution import runs_here, start_ray
from pipeline.distributed.process_runner import ProcessRunner
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import cluster_nodes
from pipeline.distributed.unit_size import unit_size
from pipeline.distributed.worker import CLIP_TIMEOUT_S
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.folder_lock import own_folder
from pipeline.io.output_folder import check_output_folder
from pipeline.io.storage import PathOrURI, pyarrow_source
from pipeline.io.text import plural
from pipeline.training.model_file import ClassifierMetadata

# Clips of a work unit: of short clips at least, and at most; and the maximum number of their spectrograms,
# which are in memory together.
CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT, WINDOWS_PER_UNIT = 32, 256, 1024
# Units for GPUs have the maximum, unless there would be fewer of them than this: CPUs read their clips.
MIN_GPU_UNITS = 64
UNIT_SIZE_NAME = "clips_per_unit"
# Seconds of a core for a second of audio and a million parameters of the network, within a factor of two.
NETWORK_S_PER_M = 0.002


def _to_tuple(value: Any) -> Any:
    return value if isinstance(value, tuple | list) else (value,)


class PredictConfig(DecodeConfig, DeviceConfig):
    """Classify unlabeled audio files."""

    run: PathOrURI
    """Folder of a trained run, or of a cross-validation, whose models then predict together."""
    audio: Annotated[tuple[PathOrURI, ...], BeforeValidator(_to_tuple)]
    """Folder of audio files, searched recursively; ids are relative paths. Also audio files, a CSV with a
    column `path`, or a text file with a path in each line."""
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
    """Split longer clips into at most N windows and average; 1 uses the center crop, as evaluation does."""
    workers: int | None = Field(None, ge=1)
    """Parallel workers (default: one per CPU, two if --out is in an object store, or one per GPU; with GPUs,
    CPUs compute the spectrograms)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numeric precision of the network; with fp32 scores do not depend on how files are batched."""


def predict(config: PredictConfig, runner: Runner | None = None) -> pd.DataFrame:
    """Write the submission and all probabilities; return the table of predictions, sorted by id.

    As `write_predictions`, and then reads `predictions.parquet`, which may not fit into memory.
    """
    write_predictions(config, runner)
    return pq.read_table(pyarrow_source(config.out / PREDICTIONS_NAME), partitioning=None).to_pandas()


def write_predictions(config: PredictConfig, runner: Runner | None = None) -> None:
    """Write the submission, all probabilities, and the lists of conspicuous files.

    `runner` runs the work units on CPUs. By default small work runs in processes of this host, other work on
    Ray, on GPUs if it has them.

    Raises:
        UserError: an unusable run, no audio files, a sample submission that does not fit files or classes, an
            output folder that is in use or contains something else, too few resources, or a full disk.
    """
    saved = load_predictor(config.run)
    metadata = saved.metadata
    manifest = read_audio(config.audio)
    plan = _plan_submission(config, manifest, metadata)
    if saved.members > 1:
        logger.info("ensemble of %d models of %s: mean of their probabilities", saved.members, config.run)
    for warning in manifest.warnings + plan.warnings:
        logger.warning("%s", warning)
    if plan.values.note:
        logger.info("%s", plan.values.note)
    with report_os_errors("reading", config.out):
        check_output_folder(config.out, ("predictions",))
    with own_folder(config.out, "predict") as owner:
        if runner is None and runs_without_ray(config, saved, manifest.clips):
            runner = ProcessRunner(config.workers)
        gpus = 0.0 if runner else resolve_gpus(config, config.workers or 1, cluster_nodes())
        job = plan_job(config, manifest.clips, gpus)
        del manifest  # possibly millions of clips, now in the job's list
        job.run(_stages(config, metadata, gpus), runner or _ray_runner(config, gpus))
        owner.check()
        with report_os_errors("writing to", config.out):
            merged = merge_predictions(job.units, config.out, plan, metadata.class_names)
            job.clean_up()
    _print_result(config, merged)


def read_audio(audio: tuple[Path, ...]) -> Manifest:
    """Read the clips of all arguments of `--audio`, sorted by id.

    Raises:
        UserError: no argument, one without clips, or two clips with the same id.
    """
    if not audio:
        raise UserError("--audio: expected a folder, audio files, a CSV or a list of files")
    if len(audio) == 1:
        return read_unlabeled(audio[0])
    manifests = [read_unlabeled(path) for path in audio]
    clips = pd.concat([manifest.clips for manifest in manifests]).sort_values("clip_id", ignore_index=True)
    repeated = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(repeated):
        raise UserError(
            f"--audio: {plural(len(repeated), 'id')} in several arguments, e.g. {shown(repeated.iloc[0])}; "
            "pass the folder that contains them all, or a CSV with the columns id,path"
        )
    return Manifest(clips, [warning for manifest in manifests for warning in manifest.warnings])


def _plan_submission(
    config: PredictConfig, manifest: Manifest, metadata: ClassifierMetadata
) -> SubmissionPlan:
    return plan_submission(
        None if config.sample_submission is None else read_sample(config.sample_submission),
        manifest.clips,
        metadata.class_names,
        config.submission_values,
        config.positive_class or None,
    )


def plan_job(config: PredictConfig, clips: pd.DataFrame, gpus: float = 0.0) -> BatchJob:
    """Plan a prediction, with outputs that are determined by the audio files, the model and the settings.

    Raises:
        UserError: the folder of the job cannot be written.
    """
    folder = config.out / ".parts"
    with report_os_errors("writing to", folder):
        clips_per_unit = planned_unit_size(folder, clips, gpus)
    return BatchJob(
        "predicting",
        clips,
        max(1, min(clips_per_unit, WINDOWS_PER_UNIT // config.windows)),
        settings=[
            UNIT_FORMAT,
            predictor_digest(config.run),
            config.tta_shifts,
            config.windows,
            config.precision,
            config.min_complete,
        ],
        folder=folder,
    )


def planned_unit_size(folder: Path, clips: pd.DataFrame, gpus: float) -> int:
    """Return the clips per work unit: as recorded in `folder` by an unfinished job, else as workers need.

    The size is recorded there for the job that resumes this one.
    """
    path = folder / UNIT_SIZE_NAME
    recorded = path.read_text(encoding="utf-8") if path.is_file() else ""
    if recorded.isdecimal():
        return int(recorded)
    if gpus:
        size = min(MAX_CLIPS_PER_UNIT, max(CLIPS_PER_UNIT, len(clips) // MIN_GPU_UNITS))
    else:
        size = unit_size(clips, CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT, worthwhile=CLIPS_PER_UNIT)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, str(size))
    return size


def _stages(config: PredictConfig, metadata: ClassifierMetadata, gpus: float) -> list[StageBuilder]:
    return [
        partial(SpectrogramReader, metadata.features, config.windows, CLIP_TIMEOUT_S, config.min_complete),
        partial(Predictor, config.run, config.tta_shifts, config.precision, partial(worker_device, gpus)),
    ]


def runs_without_ray(config: PredictConfig, saved: PredictorModel, clips: pd.DataFrame) -> bool:
    """Return whether the work is so small that it runs on this host; otherwise start Ray.

    Raises:
        UserError: Ray cannot be started.
    """
    if config.device == "cuda" or config.gpus_per_worker:
        start_ray("a GPU")
        return False
    features = saved.metadata.features
    parameters = sum(weights.numel() for weights in saved.model.parameters())
    network = NETWORK_S_PER_M * parameters / 1e6 * features.seconds * config.windows * config.tta_shifts
    return runs_here(len(clips) * (clip_seconds(clips, features, config.windows) + network))


def _ray_runner(config: PredictConfig, gpus: float) -> RayRunner:
    hint = "raise --gpus-per-worker, or predict with --device cpu" if gpus else "lower --workers"
    return RayRunner(config.wait_for_nodes, config.workers, gpus, memory_hint=hint)


def _print_result(config: PredictConfig, merged: MergedPredictions) -> None:
    """Print the number of predictions, and warn about files that were not read, or not completely."""
    if merged.unreadable:
        logger.warning(
            "%s could not be read, and got the class frequencies of the training data as prediction; see %s",
            plural(len(merged.unreadable), "file"),
            config.out / REJECTED_NAME,
        )
    if merged.warnings:
        path = config.out / WARNINGS_NAME
        logger.warning("%s read with a warning; see %s", plural(len(merged.warnings), "file"), path)
    print(f"{plural(merged.clips, 'prediction')}\nsubmission: {config.out / SUBMISSION_NAME}", flush=True)

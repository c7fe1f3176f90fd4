"""Prediction: unlabeled audio files to `submission.csv`, as a batch job on a Ray cluster.

A work unit of clips becomes one table of predictions in `OUT/.parts` (`pipeline/distributed/batch_job.py`);
the tables are merged at the end. The stages are in `pipeline/classifier/prediction/stages.py`, for windows of
recordings (`--window`) also in `windows/stage.py`. The prediction is planned first (`prediction/plan.py`): a
sample submission that does not fit the audio files fails before anything is predicted.

Units are larger for GPUs, which one of 32 clips does not keep busy. Their size is recorded in `OUT/.parts`,
and the device is not part of their names: an interrupted job that is resumed on other devices keeps its
tables, whose probabilities differ by rounding errors only.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from pipeline.audio.clip_formats import read_long_formats
from pipeline.audio.feature_defaults import describe_cropping
from pipeline.classifier.prediction.config import PredictConfig
from pipeline.classifier.prediction.merge import SUBMISSION_NAME, MergedPredictions
from pipeline.classifier.prediction.plan import PredictionPlan, plan_prediction
from pipeline.classifier.prediction.stages import Predictor, SpectrogramReader
from pipeline.classifier.prediction.tables import PREDICTIONS_NAME, UNIT_FORMAT
from pipeline.classifier.predictor_model import load_predictor, predictor_digest
from pipeline.classifier.windows.annotation_files import EVENTS_NAME
from pipeline.classifier.windows.event_scores import SCORES_NAME, read_reference_events, write_event_scores
from pipeline.classifier.windows.merge import PARTS_NAME, check_window_files
from pipeline.classifier.windows.settings import window_settings
from pipeline.classifier.windows.stage import WindowReader
from pipeline.data.clips import shown
from pipeline.data.manifest import Manifest
from pipeline.data.output_location import check_without_recordings
from pipeline.data.shards import REJECTED_NAME, WARNINGS_NAME
from pipeline.data.unlabeled import read_unlabeled
from pipeline.distributed.batch_job import BatchJob, Runner, StageBuilder
from pipeline.distributed.devices import resolve_gpus, worker_device
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
from pipeline.io.storage import pyarrow_source
from pipeline.io.text import plural
from pipeline.training.model_file import ClassifierMetadata

# Clips of a work unit: of short clips at least, and at most; and the maximum number of their spectrograms,
# which are in memory together.
CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT, WINDOWS_PER_UNIT = 32, 256, 1024
# Windows whose cost hides that of opening a recording and seeking in it.
WINDOWS_PER_READING = 128
# Units for GPUs have the maximum, unless there would be fewer of them than this: CPUs read their clips.
MIN_GPU_UNITS = 64
UNIT_SIZE_NAME = "clips_per_unit"


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
    digest = predictor_digest(config.run)
    settings = window_settings(config, saved.metadata)
    manifest = read_audio(config.audio, config.data_config)
    plan = plan_prediction(config, saved, manifest.clips, settings)
    metadata, members = saved.metadata, saved.members
    del saved  # workers load the model themselves, and one of them may be this process
    class_names, reference = metadata.class_names, None
    if plan.windows is not None and config.annotations is not None:
        reference = read_reference_events(config, config.audio, plan.windows.recordings, class_names)
    if members > 1:
        logger.info("ensemble of %d models of %s: mean of their probabilities", members, config.run)
    for warning in manifest.warnings + plan.submission.warnings + (reference.warnings if reference else []):
        logger.warning("%s", warning)
    if plan.windows is None and config.windows == 1:
        _warn_of_cropping(manifest.clips, metadata.features.seconds)
    if plan.submission.values.note:
        logger.info("%s", plan.submission.values.note)
    check_without_recordings(config.out, config.audio, manifest.clips["path"])
    with report_os_errors("reading", config.out):
        check_output_folder(config.out, ("predictions",))
    with own_folder(config.out, "predict") as owner:
        if plan.windows is not None:
            with report_os_errors("reading", config.out):
                check_window_files(config.out)
        if runner is None and runs_without_ray(config, plan.core_seconds):
            runner = ProcessRunner(config.workers)
        gpus = 0.0 if runner else resolve_gpus(config, config.workers or 1, cluster_nodes())
        clips = manifest.clips if plan.windows is None else plan.windows.recordings.windows()
        job = plan_job(config, clips, gpus, plan.label_thresholds, digest)
        del manifest, clips  # possibly millions of clips, now in the job's list
        stages = _stages(config, metadata, gpus, plan, digest)
        job.run(stages, runner or _ray_runner(config, gpus))
        owner.check()
        with report_os_errors("writing to", config.out):
            merged = plan.merge(job.units, config.out)
            scores = write_event_scores(config.out, reference, class_names) if reference else ""
            job.clean_up()
    _print_result(config, merged, scores)


def _warn_of_cropping(clips: pd.DataFrame, seconds: float) -> None:
    """Log that only the center of long files is classified."""
    if cropping := describe_cropping(read_long_formats(clips), seconds):
        advice = f"--window {seconds:g} classifies all of a recording, --windows 10 averages up to 10 parts"
        logger.warning("%s, from the center; %s", cropping, advice)


def read_audio(audio: tuple[Path, ...], data_config: str | None = None) -> Manifest:
    """Read the clips of all arguments of `--audio`, sorted by id; `data_config` is as for `read_unlabeled`.

    Raises:
        UserError: no argument, one without clips, or two clips with the same id.
    """
    if not audio:
        raise UserError("--audio: expected a folder, audio files, a CSV or a list of files")
    if len(audio) == 1:
        return read_unlabeled(audio[0], data_config)
    manifests = [read_unlabeled(path, data_config) for path in audio]
    clips = pd.concat([manifest.clips for manifest in manifests]).sort_values("clip_id", ignore_index=True)
    repeated = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(repeated):
        raise UserError(
            f"--audio: {plural(len(repeated), 'id')} in several arguments, e.g. {shown(repeated.iloc[0])}; "
            "pass the folder that contains them all, or a CSV with the columns id,path"
        )
    return Manifest(clips, [warning for manifest in manifests for warning in manifest.warnings])


def plan_job(
    config: PredictConfig,
    clips: pd.DataFrame,
    gpus: float = 0.0,
    label_thresholds: tuple[float, ...] | None = None,
    digest: str | None = None,
) -> BatchJob:
    """Plan a prediction, with outputs that are determined by the audio files, the model and the settings.

    `label_thresholds` are those of a multi-label model, as for `predicted_labels`; `digest` is that of the
    model (default: of the present one).

    Raises:
        UserError: the folder of the job cannot be written.
    """
    folder = config.out / PARTS_NAME
    with report_os_errors("writing to", folder):
        clips_per_unit = planned_unit_size(folder, clips, gpus)
    multi_label = [] if label_thresholds is None else [label_thresholds]
    return BatchJob(
        "predicting",
        clips,
        max(1, min(clips_per_unit, WINDOWS_PER_UNIT // config.windows)),
        settings=[
            UNIT_FORMAT,
            digest or predictor_digest(config.run),
            config.tta_shifts,
            config.windows,
            config.precision,
            config.min_complete,
            *multi_label,
            *(["embeddings"] if config.embeddings else []),
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
    elif "start" in clips:  # windows: the size of a recording says nothing about one of them
        size = unit_size(clips[["clip_id"]], CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT, WINDOWS_PER_READING)
    else:
        size = unit_size(clips, CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT, worthwhile=CLIPS_PER_UNIT)
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, str(size))
    return size


def _stages(
    config: PredictConfig, metadata: ClassifierMetadata, gpus: float, plan: PredictionPlan, digest: str
) -> list[StageBuilder]:
    features, device = metadata.features, partial(worker_device, gpus)
    reader: StageBuilder = (
        partial(SpectrogramReader, features, config.windows, CLIP_TIMEOUT_S, config.min_complete)
        if plan.windows is None
        else partial(WindowReader, features, CLIP_TIMEOUT_S, config.min_complete)
    )
    predictor = partial(
        Predictor,
        config.run,
        config.tta_shifts,
        config.precision,
        device,
        plan.label_thresholds,
        digest,
        config.embeddings,
    )
    return [reader, predictor]


def runs_without_ray(config: PredictConfig, core_seconds: float) -> bool:
    """Return whether the work, of `core_seconds`, is so small that it runs on this host; else start Ray.

    Raises:
        UserError: Ray cannot be started.
    """
    if config.device == "cuda" or config.gpus_per_worker:
        start_ray("a GPU")
        return False
    return runs_here(core_seconds)


def _ray_runner(config: PredictConfig, gpus: float) -> RayRunner:
    hint = "raise --gpus-per-worker, or predict with --device cpu" if gpus else "lower --workers"
    return RayRunner(config.wait_for_nodes, config.workers, gpus, memory_hint=hint)


def _print_result(config: PredictConfig, merged: MergedPredictions, scores: str) -> None:
    """Print the number of predictions and the scores of events; warn about files that were not read."""
    if merged.unreadable:
        logger.warning(
            "%s could not be read, and got the class frequencies of the training data as prediction; see %s",
            plural(len(merged.unreadable), "file"),
            config.out / REJECTED_NAME,
        )
    if merged.damaged:
        parts = plural(len(merged.damaged), "part")
        logger.warning("%s of recordings could not be read; see %s", parts, config.out / REJECTED_NAME)
    if merged.warnings:
        path = config.out / WARNINGS_NAME
        logger.warning("%s read with a warning; see %s", plural(len(merged.warnings), "file"), path)
    result = plural(merged.clips, "prediction")
    if merged.windows:
        counts = f"{plural(merged.windows, 'window')} of {plural(merged.clips, 'recording')}"
        result = f"{counts}\n{plural(merged.events, 'event')}: {config.out / EVENTS_NAME}"
    if scores:
        result += f"\n{scores}: {config.out / SCORES_NAME}"
    print(f"{result}\nsubmission: {config.out / SUBMISSION_NAME}", flush=True)

"""Plan of a prediction, checked against audio files, model and sample submission before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.audio.cpu_time import clip_seconds
from pipeline.classifier.inference import class_priors
from pipeline.classifier.prediction.config import PredictConfig
from pipeline.classifier.prediction.merge import MergedPredictions, merge_predictions
from pipeline.classifier.prediction.recording_list import read_recordings
from pipeline.classifier.predictor_model import PredictorModel
from pipeline.classifier.submission.clip_ids import ClipIndex
from pipeline.classifier.submission.plan import SubmissionPlan, plan_submission
from pipeline.classifier.submission.sample import SampleSubmission, read_sample
from pipeline.classifier.submission.time_columns import check_no_times
from pipeline.classifier.submission.window_plan import check_no_window_ids, plan_window_submission
from pipeline.classifier.windows.files import WINDOWS_NAME
from pipeline.classifier.windows.merge import WindowMerge, delete_window_files
from pipeline.classifier.windows.settings import WindowSettings, label_thresholds
from pipeline.data.recording_headers import map_batches_here
from pipeline.distributed.ordered_map import OrderedMap
from pipeline.distributed.work_unit import WorkUnit

# Seconds of a core for a second of audio and a million parameters of the network, within a factor of two.
NETWORK_S_PER_M = 0.002


@dataclass(frozen=True)
class PredictionPlan:
    """What a prediction writes, and how long it takes."""

    submission: SubmissionPlan
    windows: WindowMerge | None
    """Recordings whose windows are predicted, and the merge of these; None: whole clips are predicted."""
    class_names: tuple[str, ...]
    label_thresholds: tuple[float, ...] | None
    """As for `predicted_labels`."""
    core_seconds: float
    """Estimated CPU time."""

    def merge(self, units: Sequence[WorkUnit], out: Path) -> MergedPredictions:
        """Merge the tables of all units into the files of the prediction.

        Raises:
            UserError: a table is damaged, perhaps since an interrupted job.
            OSError: a file cannot be written.
        """
        if self.windows is not None:
            return self.windows.run(units, out)
        if (out / WINDOWS_NAME).is_file():  # otherwise files of their names are the user's own
            delete_window_files(out)
        return merge_predictions(units, out, self.submission, self.class_names)


def plan_prediction(
    config: PredictConfig, saved: PredictorModel, clips: pd.DataFrame, settings: WindowSettings | None
) -> PredictionPlan:
    """Plan the prediction of clips, or of all windows of recordings.

    Args:
        config: settings of the command.
        saved: the model.
        clips: manifest with one row for each file.
        settings: windows to predict; None for whole clips.

    Raises:
        UserError: a sample submission that does not fit files or classes, an unusable pattern of ids, or an
            object store that cannot be reached.
    """
    metadata = saved.metadata
    sample = None if config.sample_submission is None else read_sample(config.sample_submission)
    thresholds = label_thresholds(metadata, config.threshold)
    if settings is None:
        windows = None
        files = ClipIndex(clips["clip_id"].tolist(), clips["path"].tolist())
        if sample is not None:
            check_no_times(sample, metadata.class_names, metadata.features.seconds)
            check_no_window_ids(sample, files, metadata.features.seconds)
        submission = plan_submission(
            sample,
            clips,
            metadata.class_names,
            config.submission_values,
            config.positive_class or None,
            files,
            metadata.multi_label,
        )
    else:
        windows = _plan_windows(config, saved, clips, settings, sample)
        submission = windows.plan
    core_seconds = _core_seconds(config, saved, clips, windows)
    return PredictionPlan(submission, windows, metadata.class_names, thresholds, core_seconds)


def _plan_windows(
    config: PredictConfig,
    saved: PredictorModel,
    clips: pd.DataFrame,
    settings: WindowSettings,
    sample: SampleSubmission | None,
) -> WindowMerge:
    metadata = saved.metadata
    map_batches = OrderedMap(map_batches_here, "read lengths", config.wait_for_nodes)
    recordings = read_recordings(clips, settings.window, settings.hop, map_batches)
    plan, by_window = plan_window_submission(
        sample,
        recordings,
        metadata.class_names,
        config.submission_values,
        config.positive_class or None,
        config.row_id,
        metadata.multi_label,
    )
    mel = metadata.features.mel
    return WindowMerge(
        recordings,
        settings,
        metadata.class_names,
        plan,
        by_window,
        class_priors(metadata),
        label_thresholds(metadata, config.threshold),
        (mel.fmin, mel.fmax or mel.sample_rate / 2),
    )


def _core_seconds(
    config: PredictConfig, saved: PredictorModel, clips: pd.DataFrame, windows: WindowMerge | None
) -> float:
    """Return the estimated CPU time of decoding, spectrograms and network."""
    features = saved.metadata.features
    spectrograms = config.windows
    if windows is not None:
        spectrograms = math.ceil(windows.recordings.num_windows / len(clips))
    parameters = sum(weights.numel() for weights in saved.model.parameters())
    network = NETWORK_S_PER_M * parameters / 1e6 * features.seconds * spectrograms * config.tta_shifts
    return len(clips) * (clip_seconds(clips, features, spectrograms) + network)

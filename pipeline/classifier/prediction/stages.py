"""Stages of a prediction: decode and extract spectrograms, then apply the model.

Both run in the same task, or with GPUs in CPU tasks and GPU actors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.audio.clip_files import ClipsAhead, clip_sources
from pipeline.audio.decode import AudioDecodeError, DecodeConfig
from pipeline.audio.features import ClipSource, FeatureConfig, load_clip, spectrogram, split_windows
from pipeline.classifier.inference import class_priors, predict_outputs
from pipeline.classifier.outputs import Outputs
from pipeline.classifier.prediction.tables import unit_table, write_unit
from pipeline.classifier.predictor_model import load_predictor, predictor_digest
from pipeline.distributed.devices import worker_device
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.errors import UserError
from pipeline.training.model_file import check_same_model
from pipeline.training.optim import Precision


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
        self._ahead = ClipsAhead()

    def prefetch(self, unit: WorkUnit) -> None:
        """Read the first files of a unit that follows; called by another thread.

        Raises:
            OSError: the clip list cannot be read.
        """
        self._ahead.add(unit)

    def __call__(self, unit: WorkUnit) -> UnitSpectrograms:
        """Read the clips of a unit.

        Raises:
            UserError: the object store of a clip cannot be reached.
            OSError: the clip list cannot be read.
        """
        clips, files = self._ahead.take(unit)
        result = UnitSpectrograms(clips)
        with (
            CrashQuarantine(unit.folder, unit.name, self._clip_timeout_s) as quarantine,
            closing(clip_sources(clips, not quarantine.after_crash, files)) as sources,
        ):
            for clip, source in zip(result.clips, sources, strict=True):
                if quarantine.begin(clip["clip_id"]):
                    self._add(source, result)
                else:
                    result.reasons.append(CRASH_REASON)
                    result.warnings.append("")
        quarantine.end()
        return result

    def _add(self, source: ClipSource, result: UnitSpectrograms) -> None:
        """Add the spectrograms of a clip, or the reason why it cannot be read."""
        texts: list[str] = []
        try:
            samples = load_clip(source, self._features, self._min_complete, texts.append)
        except AudioDecodeError as error:
            result.reasons.append(str(error))
            result.warnings.append("")
            return
        windows = split_windows(samples, self._features, self._max_windows)
        result.reasons.append("")
        result.warnings.append("; ".join(texts))
        result.window_counts.append(len(windows))
        result.mels += [spectrogram(window, self._features) for window in windows]


class Predictor:
    """Second stage: applies the model to the spectrograms of a work unit, and writes the predictions."""

    def __init__(
        self,
        run: Path,
        tta_shifts: int,
        precision: Precision,
        choose_device: Callable[[], torch.device] = partial(worker_device, 0.0),
        thresholds: Sequence[float] | None = None,
        digest: str | None = None,
        with_embeddings: bool = False,
    ):
        """Load the model of a run, or those of a cross-validation.

        Args:
            run: folder of the run.
            tta_shifts: as for `predict_outputs`.
            precision: as for `predict_outputs`.
            choose_device: returns the device of this process.
            thresholds: as for `predicted_labels`.
            digest: that of the model when the work was planned; not checked if None.
            with_embeddings: whether tables have embeddings.

        Raises:
            UserError: an unusable run, a model that has been replaced, or a device that this process does
                not have.
        """
        self._tta_shifts, self._precision, self._thresholds = tta_shifts, precision, thresholds
        self._with_embeddings = with_embeddings
        self._device = choose_device()
        self._saved = load_predictor(run)
        if digest is not None:
            check_same_model(run, digest, predictor_digest(run))
        self._saved.model.to(self._device)
        if self._device.type == "cpu":
            torch.set_num_threads(1)

    def __call__(self, unit: WorkUnit, spectrograms: UnitSpectrograms) -> None:
        """Write the predictions of a unit.

        Raises:
            UserError: the network returns values that are not finite.
            OSError: the table cannot be written.
        """
        outputs = self._predict(spectrograms)
        table = unit_table(
            spectrograms.clips,
            spectrograms.reasons,
            spectrograms.warnings,
            outputs.probabilities,
            self._saved.metadata.class_names,
            self._thresholds,
            outputs.embeddings,
        )
        write_unit(unit.path, table)

    def _predict(self, spectrograms: UnitSpectrograms) -> Outputs:
        """Return means over windows; of unreadable clips class priors, and embeddings that are NaN."""
        mels, shape = spectrograms.mels, self._saved.metadata.features.shape
        outputs = predict_outputs(
            self._saved.model,
            np.stack(mels) if mels else np.empty((0, *shape), np.float32),
            self._tta_shifts,
            self._precision,
            self._device,
            self._with_embeddings,
        )
        is_read = np.array([not reason for reason in spectrograms.reasons], bool)
        outputs = outputs.means(spectrograms.window_counts).with_missing(is_read, len(is_read))
        priors = class_priors(self._saved.metadata)
        outputs = outputs._replace(
            probabilities=np.where(is_read[:, None], outputs.probabilities, priors[None])
        )
        self._check_finite(outputs.probabilities, spectrograms.clips)
        return outputs

    def _check_finite(self, probabilities: np.ndarray, clips: list[dict[str, Any]]) -> None:
        wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        if len(wrong):
            fix = (
                "add --precision fp32" if self._precision == "bf16" else "evaluate the run, or train it again"
            )
            raise UserError(
                f"the network returns values that are not finite for '{clips[wrong[0]]['clip_id']}': {fix}"
            )

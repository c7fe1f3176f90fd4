"""First stage of a prediction of windows: reads those of a work unit, one recording after the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

from pipeline.audio.decode import AudioDecodeError, DecodeConfig
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.audio.open_recording import KeptRecording
from pipeline.audio.recordings import read_each_window
from pipeline.classifier.prediction.stages import UnitSpectrograms
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine
from pipeline.distributed.work_unit import WorkUnit
from pipeline.distributed.worker import heartbeat


class WindowReader:
    """First stage: reads the windows of a work unit and extracts their spectrograms."""

    def __init__(
        self,
        features: FeatureConfig,
        clip_timeout_s: float = 0.0,
        min_complete: float = DecodeConfig().min_complete,
    ):
        """Set the time limit of a window, after which the process exits, in seconds; 0 disables it."""
        self._features, self._clip_timeout_s, self._min_complete = features, clip_timeout_s, min_complete
        self._kept = KeptRecording(heartbeat)

    def __call__(self, unit: WorkUnit) -> UnitSpectrograms:
        """Read the windows of a unit, neighboring ones of a recording together.

        Raises:
            UserError: the object store of a recording cannot be reached.
            OSError: the list of windows cannot be read.
        """
        result = UnitSpectrograms(unit.read_clips())
        with CrashQuarantine(unit.folder, unit.name, self._clip_timeout_s) as quarantine:
            for _, windows in itertools.groupby(result.clips, key=lambda clip: clip["group"]):
                self._add_recording(list(windows), quarantine, result)
        quarantine.end()
        return result

    def _add_recording(
        self, windows: Sequence[dict[str, Any]], quarantine: CrashQuarantine, result: UnitSpectrograms
    ) -> None:
        """Add the spectrograms of windows of a recording, or the reasons why they cannot be read."""
        # After a crash only the current window may be read.
        parts = [[window] for window in windows] if quarantine.after_crash else [windows]
        features = self._features
        for part in parts:
            texts: list[str] = []
            outcomes = read_each_window(
                part[0]["path"],
                [window["start"] for window in part],
                features.seconds,
                features.mel.sample_rate,
                self._min_complete,
                texts.append,
                self._kept,
            )
            with closing(outcomes):
                for window in part:
                    if quarantine.begin(window["clip_id"]):
                        self._add(next(outcomes), result)
                    else:
                        result.reasons.append(CRASH_REASON)
                    result.warnings.append("" if result.reasons[-1] else "; ".join(texts))
                    texts.clear()

    def _add(self, samples: np.ndarray | AudioDecodeError, result: UnitSpectrograms) -> None:
        if isinstance(samples, np.ndarray):
            result.mels.append(spectrogram(samples, self._features))
            result.window_counts.append(1)
        result.reasons.append("" if isinstance(samples, np.ndarray) else str(samples))

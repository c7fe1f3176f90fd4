"""Spectrograms of the clips or windows of a work unit, and which of them are rejected."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.decode import AudioDecodeError, DecodeConfig, OnWarning
from pipeline.audio.features import ClipSource, FeatureConfig, Spectrogram, sample_rows, spectrogram_rows
from pipeline.audio.open_recording import KeptRecording
from pipeline.audio.recordings import read_each_window
from pipeline.data.shards import ClipWarning, Rejected

# A row of the manifest.
Clip = dict[str, Any]


@dataclass
class ExtractedClips:
    """Usable clips of a work unit with their spectrograms, and what its report files list."""

    clips: list[Clip] = field(default_factory=list)
    spectrograms: list[list[Spectrogram]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    warnings: list[ClipWarning] = field(default_factory=list)

    def reject(self, clip: Clip, reason: str) -> None:
        """Add an unusable clip."""
        self.rejected.append(Rejected(clip["clip_id"], clip["path"], reason))

    def add(self, clip: Clip, rows: list[Spectrogram], warnings: Iterable[str]) -> None:
        """Add a usable clip with its spectrograms."""
        self.clips.append(clip)
        self.spectrograms.append(rows)
        self.warnings += [ClipWarning(clip["clip_id"], clip["path"], text) for text in warnings]


@dataclass(frozen=True)
class ClipExtractor:
    """Computes the spectrograms of clips or windows, with these settings."""

    features: FeatureConfig
    augment: AugmentConfig
    min_complete: float = DecodeConfig().min_complete
    kept: KeptRecording = field(default_factory=KeptRecording, compare=False)

    def extract_clips(
        self,
        clips: Sequence[Clip],
        sources: Iterable[ClipSource],
        begin: Callable[[str], bool] = lambda clip_id: True,
        skip_reason: str = "",
    ) -> ExtractedClips:
        """Extract whole clips, given with their sources.

        Args:
            clips: rows of the manifest.
            sources: audio file of each clip.
            begin: called with the id of each clip, returns whether it may be read.
            skip_reason: why a clip is rejected that may not be read.
        """
        result = ExtractedClips()
        for clip, source in zip(clips, sources, strict=True):
            if not begin(clip["clip_id"]):
                result.reject(clip, skip_reason)
                continue
            texts: list[str] = []
            try:
                rows = spectrogram_rows(
                    source, clip["clip_id"], self.features, self.augment, self.min_complete, texts.append
                )
                result.add(clip, list(rows), texts)
            except AudioDecodeError as error:
                result.reject(clip, str(error))
        return result

    def extract_windows(
        self,
        windows: Sequence[Clip],
        begin: Callable[[str], bool] = lambda clip_id: True,
        skip_reason: str = "",
        together: bool = True,
    ) -> ExtractedClips:
        """Extract windows of recordings.

        Args:
            windows: rows of the manifest, those of a recording in the order of their starts.
            begin: called with the id of each window before it is read, returns whether it may be read.
            skip_reason: why a window is rejected that may not be read.
            together: read neighboring windows of a recording in one pass, for which `begin` returns True.
        """
        result = ExtractedClips()
        for group in _neighbors(windows) if together else ([window] for window in windows):
            self._extract_group(group, begin, skip_reason, result)
        return result

    def _extract_group(
        self, group: Sequence[Clip], begin: Callable[[str], bool], skip_reason: str, result: ExtractedClips
    ) -> None:
        """Extract windows of one recording.

        Its warnings are reported for the first usable window.
        """
        texts: list[str] = []
        with closing(self._read(group, texts.append)) as outcomes:
            for window in group:
                if not begin(window["clip_id"]):
                    result.reject(window, skip_reason)
                    continue
                samples = next(outcomes)
                if isinstance(samples, AudioDecodeError):
                    result.reject(window, str(samples))
                else:
                    rows = sample_rows(samples, window["clip_id"], self.features, self.augment)
                    result.add(window, list(rows), texts)
                    texts.clear()

    def _read(self, group: Sequence[Clip], on_warning: OnWarning) -> Generator[np.ndarray | AudioDecodeError]:
        """Yield the samples of windows of one recording, or why a window cannot be read."""
        starts = [window["start"] for window in group]
        seconds, rate = self.features.seconds, self.features.mel.sample_rate
        path = group[0]["path"]
        return read_each_window(path, starts, seconds, rate, self.min_complete, on_warning, self.kept)


def _neighbors(windows: Sequence[Clip]) -> Iterator[list[Clip]]:
    """Yield neighboring windows of the same recording."""
    for _, group in itertools.groupby(windows, key=lambda window: window["path"]):
        yield list(group)

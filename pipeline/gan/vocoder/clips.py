"""Samples of the rows of a dataset, read from their audio files again, and random segments of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pipeline.audio.mel import MelConfig
from pipeline.audio.vocoder import FLOOR_TOLERANCE_DB, SILENT_DB
from pipeline.classifier.clip_audio import row_samples
from pipeline.data.dataset import ShardDataset
from pipeline.distributed.worker import heartbeat
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Segments have a frame of at most this much below the maximum of their clip: of silence nothing is learned.
MAX_BELOW_MAXIMUM_DB = 40.0
# Clips that are read between two heartbeats.
_CHUNK = 64


@dataclass(frozen=True)
class Clips:
    """Clips with their spectrograms, without those that are silent or whose audio is gone."""

    samples: list[np.ndarray]
    """Of each clip, float32 `[shape=(num_samples,)]`."""
    mels: list[np.ndarray]
    """Of each clip, in dB `[shape=(n_mels, num_frames)]`."""
    missing: int
    """Clips whose audio is gone, cannot be read, or has changed."""


def read_clips(dataset: ShardDataset, rows: np.ndarray) -> Clips:
    """Read the samples of some rows of a dataset.

    Args:
        dataset: dataset of the rows.
        rows: indices of original clips, not of their augmented copies.

    Raises:
        UserError: the audio of no row can be used.
    """
    clips, missing = Clips([], [], 0), 0
    for start in range(0, len(rows), _CHUNK):
        heartbeat()
        chunk = rows[start : start + _CHUNK].tolist()
        pairs = [(dataset.table.iloc[row], np.asarray(dataset.mels[row], np.float32)) for row in chunk]
        found = map_concurrently(lambda pair: row_samples(*pair, dataset.features), pairs)
        for (_, mel), samples in zip(pairs, found, strict=True):
            if samples is None:
                missing += 1
            elif mel.max() > SILENT_DB + FLOOR_TOLERANCE_DB:
                clips.samples.append(samples.astype(np.float32))
                clips.mels.append(mel)
    if missing == len(rows):
        path = dataset.table["path"].iloc[int(rows[0])] if len(rows) else ""
        raise UserError(
            f"train-vocoder needs the recordings of the shards, and none of {plural(len(rows), 'clip')} can "
            f"be read where `extract` found it, such as {path}: extract again from where they are now"
        )
    if not clips.samples:
        raise UserError(f"a vocoder cannot be trained on silence: all {plural(len(rows), 'clip')} are silent")
    return replace(clips, missing=missing)


class SegmentSampler:
    """Samples random segments of clips that are not silent."""

    def __init__(self, clips: Clips, frames: int, mel: MelConfig, level_db: float):
        """Take the clips.

        Args:
            clips: clips, whose spectrograms have at least `frames` frames.
            frames: frames of a segment.
            mel: settings of the spectrograms.
            level_db: maximum attenuation.
        """
        self._clips, self._frames, self._hop, self._level_db = clips, frames, mel.hop_length, level_db
        # The windows of the frames at both ends reach beyond the samples of a segment.
        ends = min(-(-mel.n_fft // 2 // mel.hop_length), (frames - 1) // 2)
        self._starts = [_audible_starts(mel, frames, ends) for mel in clips.mels]

    def sample(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return log-mel spectrograms of segments, relative to full scale, and their samples.

        The maximum of a segment is at 0 to `-level_db` dB.

        Returns:
            Spectrograms in dB, float32 `[shape=(size, n_mels, frames)]`, and samples from the middle of the
            first frame to that of the last, float32 `[shape=(size, (frames - 1) * hop_length)]`.
        """
        mels, samples = [], []
        for row in rng.integers(len(self._clips.samples), size=size).tolist():
            starts = self._starts[row]
            start = int(starts[rng.integers(len(starts))])
            mel = self._clips.mels[row][:, start : start + self._frames]
            gain_db = -float(mel.max()) - self._level_db * float(rng.random())
            first, length = start * self._hop, (self._frames - 1) * self._hop
            mels.append(np.maximum(mel + np.float32(gain_db), np.float32(SILENT_DB)))
            segment = self._clips.samples[row][first : first + length]
            samples.append(segment * np.float32(10 ** (gain_db / 20)))
        return np.stack(mels), np.stack(samples)


def _audible_starts(mel: np.ndarray, frames: int, ends: int) -> np.ndarray:
    """Return the first frames of the segments that are not silent between their `ends`; at least one."""
    loudest_T = mel.max(axis=0)
    segments = np.lib.stride_tricks.sliding_window_view(loudest_T, frames)
    maxima = segments[:, ends : frames - ends].max(axis=1)
    return np.flatnonzero(maxima >= maxima.max() - MAX_BELOW_MAXIMUM_DB)

"""Spectrogram of a whole recording for a page: image tiles at several resolutions, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.audio.mel import AMIN, MelConfig, log_mel
from pipeline.report.clips import MAX_BANDS, SPAN_DB, Scale, decibel_scale, spectrogram_data_uri

# Columns of the finest level: 0.1 s each in an hour. They take at most 3 MB, all levels 4 MB.
MAX_COLUMNS = 32_768
TILE_COLUMNS = 1024
# Columns of a level that are averaged to one of the next.
LEVEL_FACTOR = 4
# Frames that are computed together, about: their samples and spectra take 10 MB.
BLOCK_FRAMES = 1024
# Percentile of the levels that is the darkest color, if it is less than `SPAN_DB` below the maximum.
DARK_PERCENTILE = 5.0


class Block(NamedTuple):
    """A part of a recording whose columns are computed together, in samples."""

    start: int
    """First sample to read: some before those of the block, as its first frames reach into them."""
    lead: int
    """Number of samples before those of the block."""
    size: int
    """Number of samples to read."""


@dataclass(frozen=True)
class Level:
    """Tiles of one resolution: PNGs as data URIs, each of `TILE_COLUMNS` columns but the last."""

    columns: int
    tiles: list[str]


class SpectrogramColumns:
    """Columns of a recording's spectrogram: mean power of frames, at most `MAX_COLUMNS`.

    Attributes:
        columns: dB, float32 `[shape=(n_mels, num_columns)]`; NaN where nothing was added.
        column_seconds: length of a column.
        origin: time of the left edge of the first column in seconds; frames are centered on their times.
    """

    def __init__(self, config: MelConfig, num_samples: int):
        # The level of silence would depend on the block that it is in.
        self._config = config.model_copy(update={"top_db": None})
        self._num_samples = num_samples
        frames = max(1, -(-num_samples // config.hop_length))
        self._frames_per_column = -(-frames // MAX_COLUMNS)
        self.columns = np.full((config.n_mels, -(-frames // self._frames_per_column)), np.nan, np.float32)
        self.column_seconds = self._frames_per_column * config.hop_length / config.sample_rate
        self.origin = -config.hop_length / config.sample_rate / 2

    @property
    def block_size(self) -> int:
        """Number of samples of a block, without those around it."""
        columns = max(1, BLOCK_FRAMES // self._frames_per_column)
        return columns * self._frames_per_column * self._config.hop_length

    def blocks(self) -> list[Block]:
        """Return the blocks that cover the recording; all have the same number of samples to read."""
        hop = self._config.hop_length
        around = -(-self._config.n_fft // (2 * hop)) * hop
        firsts = range(0, max(1, self._num_samples), self.block_size)
        return [
            Block(max(0, first - around), min(first, around), self.block_size + 2 * around)
            for first in firsts
        ]

    def add(self, block: Block, samples: np.ndarray) -> None:
        """Compute the columns of a block from the samples that were read, fewer at the end."""
        hop, factor = self._config.hop_length, self._frames_per_column
        num_samples = min(samples.size - block.lead, self.block_size)
        if num_samples <= 0:
            return
        first = block.lead // hop
        frames = log_mel(self._config)(samples)[:, first : first - (-num_samples // hop)]
        columns = mean_columns(frames, factor)
        start = (block.start + block.lead) // hop // factor
        width = min(columns.shape[1], self.columns.shape[1] - start)
        self.columns[:, start : start + width] = columns[:, :width]

    def levels(self, scale: Scale) -> list[Level]:
        """Return the tiles of each resolution, finest first; the coarsest has a single tile."""
        levels, columns = [], self.columns
        while True:
            starts = range(0, columns.shape[1], TILE_COLUMNS)
            tiles = [
                spectrogram_data_uri(columns[:, i : i + TILE_COLUMNS], scale, (MAX_BANDS, TILE_COLUMNS))
                for i in starts
            ]
            levels.append(Level(columns.shape[1], tiles))
            if len(tiles) == 1:
                return levels
            columns = mean_columns(columns, LEVEL_FACTOR)


def mean_columns(columns: np.ndarray, factor: int) -> np.ndarray:
    """Average the power of each `factor` columns in dB, without those that are NaN.

    Power rather than dB, so that a short event stays visible in a long recording.
    """
    if factor == 1:
        return columns
    bands, width = columns.shape
    power = np.full((bands, -(-width // factor) * factor), np.nan, np.float32)
    power[:, :width] = 10 ** (columns / 10)
    groups = power.reshape(bands, -1, factor)
    counts = np.isfinite(groups).sum(axis=2)
    means = np.nansum(groups, axis=2) / np.where(counts, counts, np.nan)
    return (10 * np.log10(np.maximum(means, AMIN))).astype(np.float32)


def contrast_scale(columns: np.ndarray) -> Scale:
    """Return the dB values of the darkest and the lightest color: background noise is dark."""
    low, high = decibel_scale([columns])
    finite = columns[np.isfinite(columns)]
    if finite.size:
        low = max(low, 5.0 * np.floor(float(np.percentile(finite, DARK_PERCENTILE)) / 5.0))
    return min(low, high - SPAN_DB / 4), high

"""What a page shows of a recording itself: its spectrogram and its audio, read once, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.audio.features import ClipSource
from pipeline.audio.mel import MelConfig
from pipeline.audio.recordings import Recording, read_windows
from pipeline.report.ogg_audio import OggEncoder
from pipeline.report.tiles import SpectrogramColumns


@dataclass(frozen=True)
class RecordingMedia:
    """Spectrogram and audio of a recording."""

    columns: SpectrogramColumns
    audio: bytes | None
    """Audio as an Ogg file; None beyond the size limit."""
    gaps: list[tuple[float, float]]
    """Start and end in seconds of parts that cannot be read."""
    bytes_per_second: float = 0.0
    """Size of a second of the compressed audio, as far as it is known; otherwise 0."""


def read_media(
    source: ClipSource, recording: Recording, config: MelConfig, max_audio_bytes: int
) -> RecordingMedia:
    """Read a recording of any length.

    Args:
        source: the recording.
        recording: its length.
        config: settings of the spectrogram.
        max_audio_bytes: size limit of the compressed audio; 0: none.

    Raises:
        AudioDecodeError: nothing of it can be read.
        UserError: the object store cannot be reached.
    """
    rate, total = config.sample_rate, round(recording.seconds * config.sample_rate)
    columns = SpectrogramColumns(config, total)
    encoder = OggEncoder(rate, max_audio_bytes)
    blocks = columns.blocks()
    gaps: list[tuple[float, float]] = []
    starts = [block.start / rate for block in blocks]
    # Any part of a block is shown.
    windows = read_windows(source, starts, blocks[0].size / rate, rate, min_complete=0.0)
    for block, samples in zip(blocks, windows, strict=True):
        first = block.start + block.lead
        size = min(columns.block_size, total - first)
        own = np.zeros(0, np.float32)
        if isinstance(samples, np.ndarray):
            columns.add(block, samples)
            own = samples[block.lead : block.lead + size]
        if own.size < size:
            gaps.append(((first + own.size) / rate, (first + size) / rate))
        encoder.write(np.pad(own, (0, size - own.size)))
    return RecordingMedia(columns, encoder.content(), merge_spans(gaps), encoder.bytes_per_second)


def merge_spans(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join sorted spans that meet."""
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged

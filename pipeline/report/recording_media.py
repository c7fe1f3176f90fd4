"""What a page shows of a recording itself: its spectrogram and its audio, read once, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import ClipSource
from pipeline.audio.mel import MelConfig
from pipeline.audio.recordings import Recording, read_windows
from pipeline.report.ogg_audio import OggEncoder
from pipeline.report.tiles import SpectrogramColumns


@dataclass(frozen=True)
class RecordingMedia:
    """Spectrogram and audio of a recording."""

    columns: SpectrogramColumns
    audio: str | None
    """Audio as a data URI; None beyond the size limit."""
    gaps: list[tuple[float, float]]
    """Start and end in seconds of parts that cannot be read."""


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
    rate = config.sample_rate
    columns = SpectrogramColumns(config, round(recording.seconds * rate))
    encoder = OggEncoder(rate, max_audio_bytes)
    blocks, size = columns.blocks(), columns.block_size
    gaps: list[tuple[float, float]] = []
    starts = [block.start / rate for block in blocks]
    windows = read_windows(source, starts, blocks[0].size / rate, rate)
    for block, samples in zip(blocks, windows, strict=True):
        first = block.start + block.lead
        if isinstance(samples, AudioDecodeError):
            end = min((first + size) / rate, recording.seconds)
            gaps.append((first / rate, end))
            samples = np.zeros(max(0, block.lead + round(end * rate) - first), np.float32)
        else:
            columns.add(block, samples)
        encoder.write(samples[block.lead : block.lead + size])
    return RecordingMedia(columns, encoder.data_uri(), merge_spans(gaps))


def merge_spans(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join sorted spans that meet."""
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged

"""Windows of long recordings: their length, and the samples of some of their windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import soundfile

from pipeline.audio.clip_files import RemoteFile
from pipeline.audio.decode import AudioDecodeError, DecodeConfig, OnWarning, decode, ignore_warning
from pipeline.audio.features import ClipSource


class Recording(NamedTuple):
    """Length and sample rate of a recording."""

    seconds: float
    sample_rate: int


def read_recording(source: ClipSource) -> Recording:
    """Return length and sample rate of a recording, from its header where that has them.

    Raises:
        AudioDecodeError: no usable audio.
        UserError: the object store cannot be reached.
    """
    try:
        info = soundfile.info(source)
    except (OSError, RuntimeError) as error:
        raise AudioDecodeError(f"unreadable: {error}") from None
    return Recording(info.duration, info.samplerate)


def read_windows(
    source: ClipSource,
    starts: Sequence[float],
    seconds: float,
    sample_rate: int,
    min_complete: float = DecodeConfig().min_complete,
    on_warning: OnWarning = ignore_warning,
) -> Iterator[np.ndarray | AudioDecodeError]:
    """Yield the samples of windows of a recording, or why a window cannot be read.

    Args:
        source: the recording.
        starts: first second of each window, ascending.
        seconds: length of a window.
        sample_rate: rate of the samples in Hz.
        min_complete: a window needs at least this fraction of those samples that the recording declares.
        on_warning: called with each reason why the samples may not be what they should be.

    Yields:
        Mono samples, float32 `[shape=(num_samples,)]`; fewer than `seconds` at the end of the recording.

    Raises:
        AudioDecodeError: nothing of the recording can be read; raised before the first window.
        UserError: the object store cannot be reached.
    """
    data = source.read() if isinstance(source, RemoteFile) else source
    samples = decode(data, sample_rate, min_complete, on_warning)
    for start in starts:
        first = round(start * sample_rate)
        yield samples[first : first + round(seconds * sample_rate)]

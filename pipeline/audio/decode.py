"""Decode audio files to mono samples: all of their streams, also of damaged files if enough is there."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable

import numpy as np
import soundfile
from pydantic import Field

from models.config import Config
from pipeline.audio.decoding.av_reader import needs_av, read_av
from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.damage import read_intact
from pipeline.audio.decoding.mpeg_reader import join_mpeg_streams
from pipeline.audio.decoding.stream import Stream
from pipeline.audio.decoding.stream_reader import CUT, DECODER_ERRORS, StreamSamples
from pipeline.audio.decoding.streams import find_streams
from pipeline.io.errors import check_not_storage

# Errors of opening a file that say something about it. Others are of the file system, such as a lost network
# disk or too many open files, and the file is not rejected.
_ERRORS_OF_FILE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
# Files of floats are meant to be in [-1, 1]; some programs write the range of 16-bit integers.
_IMPLAUSIBLE_RMS = 10.0


class DecodeConfig(Config):
    """Tolerance for damaged audio files."""

    min_complete: float = Field(0.75, ge=0, le=1)
    """Use an audio file that is truncated or damaged if at least this fraction of its declared samples
    precedes the missing or damaged part, with a warning in warnings.csv; 1 rejects every such file."""


# From this ratio of sample rates on, a recording is probably ultrasonic.
MAX_RATE_RATIO = 8


class AudioDecodeError(Exception):
    """Raised for a file without usable audio; the message is the reason given in `rejected.csv`."""


# Called with each reason why the samples of a file that is used may not be what they should be.
OnWarning = Callable[[str], None]


def ignore_warning(text: str) -> None:
    """Do nothing, for callers of `decode` that only need the samples."""


def decode(
    source: str | os.PathLike[str] | bytes,
    sample_rate: int,
    min_complete: float = DecodeConfig().min_complete,
    on_warning: OnWarning = ignore_warning,
) -> np.ndarray:
    """Decode an audio file to mono samples at `sample_rate`.

    Several streams in one file (`cat a.ogg b.ogg`) are decoded one after the other, each up to its first
    damaged part. The mean over channels is taken, except of channels that are silent or cancel out.

    Args:
        source: path, or content of a file.
        sample_rate: target sample rate in Hz.
        min_complete: as in `DecodeConfig`.
        on_warning: called with a text for `warnings.csv`.

    Returns:
        Samples `[shape=(num_samples,)]`, float32, full scale is 1; integer formats are in [-1, 1].

    Raises:
        AudioDecodeError: missing, empty, unreadable or truncated file, no samples, or values that are not
            finite.
        UserError: the file system fails.
    """
    with open_source(source) as data:
        if data.size == 0:
            raise AudioDecodeError("empty file (0 bytes)")
        streams, parts = _read_streams(data, sample_rate)
    warnings = [_truncation(streams, parts, min_complete)]
    samples = parts[0].samples if len(parts) == 1 else np.concatenate([part.samples for part in parts])
    warnings.append(level_warning(samples, all(part.constant for part in parts)))
    warnings += [stream.warning for stream in streams]
    warnings += [bandwidth_warning(part.sample_rate, sample_rate) for part in parts]
    warnings += [part.mix.reason for part in parts if part.mix is not None]
    for text in dict.fromkeys(filter(None, warnings)):
        on_warning(text)
    return samples


def bandwidth_warning(file_rate: float, sample_rate: int) -> str:
    """Return a text if most frequencies of a file are lost, such as those of bats, or an empty one."""
    if file_rate < MAX_RATE_RATIO * sample_rate:
        return ""
    return (
        f"sample rate of {file_rate:g} Hz: frequencies above {sample_rate / 2:g} Hz are lost; "
        "to keep them, extract and train with a higher --features.mel.sample-rate"
    )


def open_source(source: str | os.PathLike[str] | bytes) -> ByteSource:
    """Open a file, given by its path or as its content.

    Raises:
        AudioDecodeError: there is none, or it must not be opened.
        UserError: the file system fails.
    """
    try:
        return ByteSource(source)
    except FileNotFoundError:
        raise AudioDecodeError("no such file") from None
    except (OSError, ValueError) as error:  # ValueError: NUL byte in the name
        if getattr(error, "errno", None) not in _ERRORS_OF_FILE and not isinstance(source, bytes):
            check_not_storage(error, os.fspath(source))
        raise AudioDecodeError(f"unreadable: {getattr(error, 'strerror', None) or error}") from None


def _read_streams(data: ByteSource, sample_rate: int) -> tuple[list[Stream], list[StreamSamples]]:
    streams = [Stream(0, data.size)]
    parts: list[StreamSamples] = []
    try:
        streams = join_mpeg_streams(data, find_streams(data))
        for stream in streams:
            parts.append(read_intact(data, stream, sample_rate))
        return streams, parts
    except DECODER_ERRORS as error:
        if data.path is not None:
            check_not_storage(error, data.path)
        reason = decoder_reason(error)
        if not parts and needs_av(data):
            return _read_av(data, sample_rate)
    position = f" (stream {len(parts) + 1} of {len(streams)})" if len(streams) > 1 else ""
    raise AudioDecodeError(f"unreadable: {reason}{position}")


def _read_av(data: ByteSource, sample_rate: int) -> tuple[list[Stream], list[StreamSamples]]:
    try:
        return [Stream(0, data.size)], [read_av(data, sample_rate)]
    except DECODER_ERRORS as error:
        raise AudioDecodeError(f"unreadable: {error}") from None


def decoder_reason(error: Exception) -> str:
    """Return what a decoder says about a file that it cannot read."""
    if not isinstance(error, soundfile.LibsndfileError):
        return str(error)
    reason = error.error_string.rstrip(".")
    # libsndfile's message for an MP3 without frames, whether or not the file exists.
    return "Format not recognised" if reason.startswith("File does not exist") else reason


def _truncation(streams: list[Stream], parts: list[StreamSamples], min_complete: float) -> str:
    """Return which part of the declared samples is there; empty if it is all of them.

    Raises:
        AudioDecodeError: less than `min_complete`.
    """
    seconds = sum(part.num_frames / part.sample_rate for part in parts)
    declared_seconds = sum(part.declared_frames / part.sample_rate for part in parts)
    if seconds < declared_seconds:
        percent = math.floor(1000 * seconds / declared_seconds) / 10
        text = f"truncated: {percent:.1f} % of the declared samples{_up_to_damage(parts)}"
        if seconds < min_complete * declared_seconds:
            raise AudioDecodeError(f"{text}, less than --min-complete {min_complete:g}")
        return text
    if any(stream.cut or part.failed for stream, part in zip(streams, parts, strict=True)):
        text = f"{CUT}{_up_to_damage(parts)}"
        if min_complete == 1:
            raise AudioDecodeError(f"{text}, and --min-complete is 1")
        return text
    return ""


def _up_to_damage(parts: list[StreamSamples]) -> str:
    """Return up to where a file is used, if it is damaged there; otherwise an empty text."""
    seconds = 0.0
    for part in parts:
        if part.failed:
            return f", up to {seconds + part.num_frames / part.sample_rate:.2f} s, where it is damaged"
        seconds += part.declared_frames / part.sample_rate
    return ""


def level_warning(samples: np.ndarray, constant: bool) -> str:
    """Return a text if all samples are equal (`constant`) or far above full scale, otherwise an empty one.

    Raises:
        AudioDecodeError: no samples, or values that are not finite.
    """
    if samples.size == 0:
        raise AudioDecodeError("no samples")
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.dot(samples, samples)
    if not np.isfinite(energy):
        raise AudioDecodeError("values that are not finite (NaN, infinity, or float32 overflow when squared)")
    if energy == 0 and not samples.any():
        return "digital silence: every sample is zero"
    if constant and samples.size > 1:
        return "digital silence: all samples are equal"
    rms = math.sqrt(energy / samples.size)
    return f"RMS of {rms:.3g}, where full scale is 1: integers as floats?" if rms > _IMPLAUSIBLE_RMS else ""

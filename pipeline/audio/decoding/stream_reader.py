"""Read one audio stream: decode with libsndfile, mix down to mono and resample, block by block."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from pipeline.audio.decoding.byte_source import ByteRange, ByteSource
from pipeline.audio.decoding.channels import ChannelStatistics, Mix, mix_down
from pipeline.audio.decoding.stream import Stream
from pipeline.audio.waveform import RESAMPLE_QUALITY, resample

# Frames per block read from a file, so that memory grows with the mono length and not with channels x length.
BLOCK_FRAMES = 1 << 18
# Above this many input frames the resampler streams as well; below it, one call is faster.
STREAM_FRAMES = 1 << 22
# A corrupt header with a lower sample rate (Hz) would expand a small file to gigabytes.
MIN_SAMPLE_RATE = 100
CUT = "truncated: the end is missing, by an unknown amount"
# What decoders raise; libsndfile's errors are among them.
DECODER_ERRORS = (RuntimeError, TypeError, OSError, ValueError)
# libsndfile's code for a position that it cannot set. soundfile sets it after each block, which fails at the
# end of a FLAC stream of unknown length.
_SEEK_FAILED = 39
# libsndfile reports about 2**62 frames for compressed formats that declare no length.
UNKNOWN_FRAMES = 1 << 60
_SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3}
_SAMPLE_BYTES |= {"PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
# Encoders disagree on which frames of an MP3 the number of frames includes.
MP3_TOLERANCE = 3 * 1152


@dataclass(frozen=True)
class StreamSamples:
    """Mono samples of a stream at the target rate, and how they were read."""

    samples: np.ndarray
    sample_rate: int
    """Rate of the stream in Hz, in which frames are counted."""
    num_frames: int
    declared_frames: float
    """Number of frames that the header declares, at least `num_frames`."""
    failed: bool
    """Whether what follows is damaged: the decoder stopped with an error, or would leave out a part."""
    mix: Mix | None
    constant: bool
    """Whether all samples are equal, before they are resampled."""


def read_stream(source: ByteSource, stream: Stream, sample_rate: int) -> StreamSamples:
    """Decode a stream to mono samples at `sample_rate`.

    Raises:
        soundfile.LibsndfileError, RuntimeError, ValueError: not even the first samples can be decoded.
    """
    try:
        return _read_channels(source, stream, sample_rate, until_error=False)
    except soundfile.LibsndfileError:
        return _read_channels(source, stream, sample_rate, until_error=True)


def _read_channels(source: ByteSource, stream: Stream, sample_rate: int, until_error: bool) -> StreamSamples:
    result, statistics = _read(source, stream, sample_rate, until_error)
    mix = statistics.mix()
    return result if mix is None else _read(source, stream, sample_rate, until_error, mix)[0]


def _read(
    source: ByteSource, stream: Stream, sample_rate: int, until_error: bool, mix: Mix | None = None
) -> tuple[StreamSamples, ChannelStatistics]:
    with open_stream(source, stream) as sound:
        blocks = _MonoBlocks(sound, until_error, mix)
        samples = _resampled(sound, blocks, sample_rate)
        declared = declared_frames(sound, stream, blocks.num_frames)
        result = StreamSamples(
            samples, sound.samplerate, blocks.num_frames, declared, blocks.failed, mix, blocks.constant
        )
        return result, blocks.statistics


def open_stream(source: ByteSource, stream: Stream) -> soundfile.SoundFile:
    """Open a stream for decoding.

    Raises:
        soundfile.LibsndfileError, ValueError: it cannot be decoded.
    """
    whole = not stream.prefix and stream.start == 0 and stream.end == source.size
    file = source.whole() if whole else ByteRange(source, stream.start, stream.end, stream.prefix)
    sound = _SoundFile(file)
    if sound.samplerate < MIN_SAMPLE_RATE:
        sound.close()
        raise ValueError(f"implausible sample rate ({sound.samplerate} Hz)")
    return sound


class _SoundFile(soundfile.SoundFile):
    """A file without seeks to where it is: soundfile does one after each block.

    After a seek, the MP3 decoder lacks bytes of previous frames, so that up to 300 samples were wrong.
    """

    def seek(self, frames: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and frames == self.tell():
            return frames
        return super().seek(frames, whence)


class _MonoBlocks:
    """Iterable over the mono samples of a file, block by block.

    With `until_error`, an error of the decoder ends the iteration after the samples before it, if any.
    """

    def __init__(self, sound: soundfile.SoundFile, until_error: bool, mix: Mix | None) -> None:
        self._sound, self._until_error, self._mix = sound, until_error, mix
        self.num_frames = 0
        self.failed = False
        self.constant = True
        self._first: float | None = None
        self.statistics = ChannelStatistics()

    def __iter__(self) -> Iterator[np.ndarray]:
        size = BLOCK_FRAMES
        while size == BLOCK_FRAMES:
            block = self._read_until_error() if self._until_error else read_frames(self._sound, size)
            size = len(block)
            self.num_frames += size
            if size:
                rows = np.ascontiguousarray(block.T)
                self.statistics.add(rows)
                mono = mix_down(rows, self._mix)
                self._compare(mono)
                yield mono

    def _compare(self, mono: np.ndarray) -> None:
        self._first = float(mono[0]) if self._first is None else self._first
        # The last sample decides in nearly all files.
        self.constant = self.constant and mono[-1] == self._first and bool((mono == self._first).all())

    def _read_until_error(self) -> np.ndarray:
        # The decoder does not return how many frames precede an error.
        size = min(BLOCK_FRAMES, max(0, self._sound.frames - self.num_frames))
        block = np.full((size, self._sound.channels), np.nan, np.float32)
        try:
            return self._sound.read(out=block)
        except soundfile.LibsndfileError as error:
            missing = np.isnan(block).any(axis=1)
            self.failed = self._sound.format != "FLAC" or error.code != _SEEK_FAILED
            if (self.num_frames == 0 and missing.all()) or (self.failed and not missing.any()):
                raise
            return block[: missing.argmax()] if missing.any() else block


def read_frames(sound: soundfile.SoundFile, count: int) -> np.ndarray:
    """Read the next frames, at most `count`, float32 `[shape=(num_frames, channels)]`."""
    if sound.subtype != "PCM_16" or sound.format == "FLAC":
        return sound.read(count, dtype="float32", always_2d=True)
    # The same values as dtype="float32"; numpy converts in a fifth of libsndfile's time.
    block = sound.read(count, dtype="int16", always_2d=True).astype(np.float32)
    block *= np.float32(1 / 32768)
    return block


def _resampled(sound: soundfile.SoundFile, blocks: _MonoBlocks, sample_rate: int) -> np.ndarray:
    if sound.frames > STREAM_FRAMES and sound.samplerate != sample_rate:
        stream = soxr.ResampleStream(
            sound.samplerate, sample_rate, 1, dtype="float32", quality=RESAMPLE_QUALITY
        )
        parts = [stream.resample_chunk(block) for block in blocks]
        return np.concatenate([*parts, stream.resample_chunk(np.zeros(0, np.float32), last=True)])
    parts = list(blocks)
    mono = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return resample(mono, sound.samplerate, sample_rate)


def declared_frames(sound: soundfile.SoundFile, stream: Stream, num_frames: int) -> float:
    """Return how many frames the header declares, at least `num_frames`, which were read."""
    if sound.format == "MP3":
        # Without a number of frames in the header, libmpg123 estimates it from the first bit rate.
        estimated = sound.subtype != "MPEG_LAYER_III"
        tolerance = 0 if stream.declared_bytes else MP3_TOLERANCE
        return num_frames if estimated or sound.frames <= num_frames + tolerance else sound.frames
    if stream.declared_frames:
        return max(num_frames, stream.declared_frames)
    if stream.declared_bytes:
        width = _SAMPLE_BYTES.get(sound.subtype, 0) * sound.channels
        if width:
            return max(num_frames, stream.declared_bytes // width)
        return num_frames * stream.declared_bytes / stream.present_bytes if num_frames else math.inf
    if sound.subtype == "MPEG_LAYER_III":  # in a WAV file: an estimate as well
        return num_frames
    return num_frames if sound.frames >= UNKNOWN_FRAMES else max(num_frames, sound.frames)

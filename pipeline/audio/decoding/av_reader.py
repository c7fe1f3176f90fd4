"""Audio in formats that libsndfile does not read (m4a, aac, webm, mp4, wma, amr …), by FFmpeg.

PyAV, with FFmpeg in it, is an optional dependency: `pip install 'melray[av]'`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pipeline.audio.decoding.byte_source import ByteRange, ByteSource
from pipeline.audio.decoding.channels import ChannelStatistics, Mix, mix_down
from pipeline.audio.decoding.stream_reader import BLOCK_FRAMES, MIN_SAMPLE_RATE, StreamSamples
from pipeline.audio.file_types import HEADER_BYTES, has_av, is_audio_header
from pipeline.audio.waveform import resample

# Formats whose header has the length, and of these the one whose packets have exact times. A seek to a time
# of whole milliseconds (webm) or to one that FFmpeg estimates (aac) would shift the samples.
_MP4, _WITH_LENGTH = "mov,mp4,m4a,3gp,3g2,mj2", ("matroska,webm", "asf", "wv", "tta", "ape")
# Read before a section, as a packet needs the previous ones.
_WARM_UP_SECONDS = 1.0
# Padding of the last packet.
_TOLERANCE_SECONDS = 0.1
# Times of whole milliseconds are not gaps.
_MAX_GAP_SECONDS = 0.05
# Largest values of integer samples.
_FULL_SCALE = {"int16": 1 << 15, "int32": 1 << 31, "int64": 1 << 63}
# Playlists, which FFmpeg also reads, must not open other files or URLs.
_OPTIONS = {"protocol_whitelist": "pipe"}


def needs_av(source: ByteSource) -> bool:
    """Return whether a file that libsndfile cannot read may be one for FFmpeg, which is there."""
    return has_av() and not is_audio_header(source.read(0, HEADER_BYTES))


class AvReader:
    """Reads the first audio stream of a file; see `FrameReader`."""

    _container: Any = None

    def __init__(self, source: ByteSource) -> None:
        """Open a file.

        Raises:
            RuntimeError: it has no audio that FFmpeg can decode.
        """
        self._source = source
        self.warning = ""
        self._kept: list[tuple[int, np.ndarray]] = []
        with _runtime_errors():
            self._restart()
            position, samples = next(self._chunks, (0, np.zeros((0, 1), np.float32)))
            if not len(samples):
                raise RuntimeError("no samples")
            self.sample_rate, self.channels = self._rate, samples.shape[1]
            if self.sample_rate < MIN_SAMPLE_RATE:
                raise RuntimeError(f"implausible sample rate ({self.sample_rate} Hz)")
            name, base = self._container.format.name, self._stream.time_base
            self.is_seekable = name == _MP4 and base * self.sample_rate <= 2
            self.tolerance = round(_TOLERANCE_SECONDS * self.sample_rate)
            self.num_frames: int | None = round(self._seconds(name) * self.sample_rate)
        self.declared_frames = self.num_frames or 0
        self._kept = [(position, samples)]

    def _seconds(self, name: str) -> float:
        """Return the length that the header declares, or that of all packets, which are not decoded."""
        import av

        if name == _MP4 and self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        if name in _WITH_LENGTH and self._container.duration:
            return self._container.duration / av.time_base
        with self._open() as container:
            stream = container.streams.audio[0]
            ticks = sum(packet.duration or 0 for packet in container.demux(stream))
            return float(ticks * stream.time_base)

    def _open(self) -> Any:
        import av

        return av.open(ByteRange(self._source, 0, self._source.size, b""), options=_OPTIONS)

    def _restart(self) -> None:
        self.close()
        self._container = self._open()
        if not self._container.streams.audio:
            raise RuntimeError("no audio stream")
        self._stream = self._container.streams.audio[0]
        self._kept, self._chunks = [], self._decode(0)

    def _seek(self, start: int) -> None:
        if self._container is None:
            self._restart()
        seconds = max(0.0, start / self.sample_rate - _WARM_UP_SECONDS)
        if not seconds:
            self._restart()  # so that the decoder skips its own padding
            return
        self._container.seek(int(seconds / self._stream.time_base), stream=self._stream)
        self._kept, self._chunks = [], self._decode(None)

    def _decode(self, position: int | None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield samples and their position: by the time of their packet, unless `position` is given.

        Samples of damaged packets are not a number, also where the time shows that packets are missing.
        """
        for packet in self._container.demux(self._stream):
            for frame in self._frames(packet):
                self._rate = frame.sample_rate
                samples, time = _to_float(frame), self._position(frame)
                if position is None:
                    yield 0 if time is None else time, samples
                    continue
                while time is not None and time > position + _MAX_GAP_SECONDS * self._rate:
                    size = min(self._rate, time - position)
                    yield position, np.full((size, samples.shape[1]), np.nan, np.float32)
                    position += size
                yield position, samples
                position += len(samples)

    def _frames(self, packet: Any) -> list[Any]:
        import av

        try:
            return packet.decode()
        except av.error.InvalidDataError:
            return []

    def _position(self, frame: Any) -> int | None:
        """Return the position of a frame by its time; None: unknown."""
        if frame.pts is None:
            return None
        return round((frame.pts - (self._stream.start_time or 0)) * frame.time_base * frame.sample_rate)

    def read(self, start: int, count: int) -> np.ndarray:
        """Read a section, as `FrameReader.read`."""
        with _runtime_errors():
            try:
                return self._read(start, count)
            except Exception:
                self.close()
                raise
            finally:
                self._source.check()

    def _read(self, start: int, count: int) -> np.ndarray:
        if self.is_seekable:
            self._seek(start)
        elif self._container is None or not self._kept or start < self._kept[0][0]:
            self._restart()
        chunks = self._kept
        while not chunks or _end(chunks[-1]) < start + count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            # The end of the last one is the position of the stream.
            chunks = [one for one in chunks if _end(one) > start] if len(chunks) > 1 else chunks
            chunks.append(chunk)
        self._kept = [one for one in chunks if _end(one) > start] or chunks[-1:]
        return _section(self._kept, start, count, self.channels)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None


def _end(chunk: tuple[int, np.ndarray]) -> int:
    return chunk[0] + len(chunk[1])


def _section(chunks: list[tuple[int, np.ndarray]], start: int, count: int, channels: int) -> np.ndarray:
    """Return frames from `start` on, at most `count`, of chunks at their positions."""
    size = min(count, max(0, max(map(_end, chunks), default=0) - start))
    frames = np.full((size, channels), np.nan, np.float32)
    for position, samples in chunks:
        first, last = max(position, start), min(position + len(samples), start + size)
        if first < last:
            frames[first - start : last - start] = samples[first - position : last - position]
    return frames


def _to_float(frame: Any) -> np.ndarray:
    """Return the samples of a decoded frame, float32 `[shape=(num_frames, channels)]`."""
    values = frame.to_ndarray()
    channels = len(frame.layout.channels)
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / np.float32(128)
    scale = _FULL_SCALE.get(values.dtype.name, 1)
    return values.astype(np.float32) * np.float32(1 / scale)


@contextmanager
def _runtime_errors() -> Iterator[None]:
    """Convert errors of FFmpeg."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise RuntimeError(error.strerror or str(error)) from None


def read_av(source: ByteSource, sample_rate: int) -> StreamSamples:
    """Decode a file to mono samples at `sample_rate`.

    Raises:
        RuntimeError: it has no audio that FFmpeg can decode.
    """
    reader = AvReader(source)
    try:
        parts, mix, damaged = _mono(reader, None)
        if mix is not None:
            parts, _, _ = _mono(reader, mix)
    finally:
        reader.close()
    mono = np.concatenate(parts)
    constant = bool((mono == mono[:1]).all())
    declared = len(mono) if reader.declared_frames <= len(mono) + reader.tolerance else reader.declared_frames
    samples = resample(mono, reader.sample_rate, sample_rate)
    failed = damaged and declared > len(mono)
    return StreamSamples(samples, reader.sample_rate, len(mono), declared, failed, mix, constant)


def _mono(reader: AvReader, mix: Mix | None) -> tuple[list[np.ndarray], Mix | None, bool]:
    """Return mono samples in parts, which channels should be used, and whether what follows is damaged."""
    statistics, parts, position, damaged = ChannelStatistics(), [], 0, False
    while position < reader.declared_frames:
        count = min(BLOCK_FRAMES, reader.declared_frames - position)
        rows = np.ascontiguousarray(reader.read(position, count).T)
        finite = np.isfinite(rows).all(axis=0)
        if not finite.all():
            rows = rows[:, : finite.argmin()]  # what precedes a damaged part, as of other formats
            damaged = True
        statistics.add(rows)
        parts.append(mix_down(rows, mix))
        if rows.shape[1] < count:
            break
        position += count
    return parts, statistics.mix(), damaged

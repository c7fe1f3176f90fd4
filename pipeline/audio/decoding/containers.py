"""Uncompressed containers (WAV, AIFF, AU, CAF …): where the audio is, and how much of it the header declares.

libsndfile repairs some of these headers silently and rejects others.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.stream import Stream

# Programs that write to a pipe cannot fill in the length afterwards; they declare one near 2 or 4 GiB, or
# near the maximum of 64 bits.
_UNKNOWN_32, _UNKNOWN_64 = 0x7F000000, 1 << 62
# A corrupt header could list millions of chunks.
_MAX_CHUNKS = 1000
_NIST_HEADER = 1024
# Codes of WAV formats whose samples all have the same size.
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# Bytes after the audio that are no chunk: below these limits a tag or padding, above them maybe audio.
_MAX_REST_BYTES, _MAX_REST_FRACTION = 4096, 0.01

# How far from the end of a file chunks after the audio are searched for.
_TAIL_BYTES = 1 << 16
_CHUNK_ID = re.compile(rb"[ -~]{4}")
_ANY_CHUNK_ID = re.compile(rb"(?=[ -~]{4})")

_NEVER_CLOSED = "the header declares no samples (the file was never closed): read to the end of the file"


@dataclass(frozen=True)
class _Chunks:
    """How a container stores its chunks: each is an id, a size and a payload."""

    first: int
    audio_id: bytes
    size: struct.Struct
    id_bytes: int = 4
    alignment: int = 2
    skip: int = 0
    """Bytes between the size of the audio chunk and the audio, which the size includes."""
    size_includes_header: bool = False

    @property
    def header_bytes(self) -> int:
        """Bytes of the id and the size."""
        return self.id_bytes + self.size.size

    @property
    def extra(self) -> int:
        """Bytes that the size of the audio chunk includes in addition to the audio."""
        return self.skip + (self.header_bytes if self.size_includes_header else 0)

    def read(self, source: ByteSource, position: int) -> tuple[bytes, int, int] | None:
        """Return id, start and end of the payload of the chunk at `position`; None if there is none."""
        header = source.read(position, self.header_bytes)
        if len(header) < self.header_bytes or not _CHUNK_ID.match(header):
            return None
        size = self.size.unpack_from(header, self.id_bytes)[0]
        payload = position + self.header_bytes
        return header[: self.id_bytes], payload, payload + size - (self.extra - self.skip)

    def after(self, source: ByteSource, start: int, end: int) -> int:
        """Return the position of the chunk after the one that begins at `start`; some programs do not pad."""
        padded = start + -(-(end - start) // self.alignment) * self.alignment
        unpadded = padded != end and self.read(source, padded) is None and self.read(source, end) is not None
        return end if unpadded else padded


_RIFF = _Chunks(12, b"data", struct.Struct("<I"))
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_CONTAINERS = {
    (b"RIFF", b"WAVE"): _RIFF,
    (b"RIFX", b"WAVE"): _Chunks(12, b"data", struct.Struct(">I")),
    (b"RF64", b"WAVE"): _RIFF,
    (b"FORM", b"AIFF"): _Chunks(12, b"SSND", struct.Struct(">I"), skip=8),
    (b"FORM", b"AIFC"): _Chunks(12, b"SSND", struct.Struct(">I"), skip=8),
    (b"FORM", b"8SVX"): _Chunks(12, b"BODY", struct.Struct(">I")),
    (b"FORM", b"16SV"): _Chunks(12, b"BODY", struct.Struct(">I")),
    (b"riff", b"wave"): _Chunks(
        40, _W64_DATA, struct.Struct("<Q"), id_bytes=16, alignment=8, size_includes_header=True
    ),
    (b"caff", b"desc"): _Chunks(8, b"data", struct.Struct(">Q"), alignment=1, skip=4),
}


@dataclass(frozen=True)
class _Audio:
    """Audio of one stream: its first byte, the declared size, and the field of the header with that size."""

    start: int
    declared: int
    field: int = 0
    format: struct.Struct | None = None
    extra: int = 0
    """What the field counts in addition to the audio."""
    declared_frames: int = 0
    """Number of samples per channel of a compressed format, 0: not declared."""
    warning: str = ""
    """What contradicts itself in the header."""

    def is_unknown(self, present: int) -> bool:
        """Return whether the declared size means that it is unknown, where `present` bytes follow."""
        limit = _UNKNOWN_64 if self.format is not None and self.format.size == 8 else _UNKNOWN_32
        return self.declared >= limit and self.declared > present

    def header(self, source: ByteSource, start: int, size: int) -> bytes:
        """Return the bytes of the stream before the audio, with `size` as the declared one."""
        header = bytearray(source.read(start, self.start - start))
        if self.format is not None:
            maximum = (1 << 8 * self.format.size) - 1
            self.format.pack_into(header, self.field - start, min(size + self.extra, maximum))
        return bytes(header)


def container_streams(source: ByteSource) -> list[Stream] | None:
    """Return the streams of a file; None if it has another format or no audio chunk."""
    streams: list[Stream] = []
    start: int | None = 0
    while start is not None:
        chunks, audio = _find_audio(source, start)
        if audio is None:
            # The decoder reports what is wrong with it.
            return [*streams, Stream(start, source.size)] if streams else None
        stream, start = _stream(source, start, chunks, audio)
        streams.append(stream if stream.warning else replace(stream, warning=audio.warning))
    return streams


def _container(source: ByteSource, start: int) -> _Chunks | None:
    """Return the kind of the container at `start`, if it consists of chunks."""
    head = source.read(start, 28)
    form = head[24:28] if head[:4] == b"riff" else head[8:12]
    return _CONTAINERS.get((head[:4], form))


def _find_audio(source: ByteSource, start: int) -> tuple[_Chunks | None, _Audio | None]:
    chunks = _container(source, start)
    if chunks is None:
        return None, _au_audio(source, start) or _nist_audio(source, start)
    long_size, num_frames, warning = None, 0, ""
    for name, payload, end in _walk(source, chunks, start + chunks.first):
        if name == b"ds64":
            long_size = payload + 8
        if name == b"fmt ":
            warning = _format_warning(source.read(payload, 16), chunks.size.format[0])
        if name == b"pakt":
            num_frames = struct.unpack(">Q", source.read(payload + 8, 8).ljust(8, b"\0"))[0]
        if name != chunks.audio_id:
            continue
        field, size = payload - chunks.size.size, end - payload - chunks.skip
        if long_size is not None and size == 0xFFFFFFFF:
            declared = struct.unpack("<Q", source.read(long_size, 8).ljust(8, b"\0"))[0]
            return chunks, _Audio(payload, declared, long_size, struct.Struct("<Q"), warning=warning)
        start = payload + chunks.skip
        return chunks, _Audio(start, size, field, chunks.size, chunks.extra, num_frames, warning)
    return chunks, None


def _format_warning(fields: bytes, byte_order: str) -> str:
    """Return a text if the sizes of a sample and of a frame contradict each other, otherwise an empty one."""
    if len(fields) < 16:
        return ""
    code, channels, _, _, frame_bytes, bits = struct.unpack(f"{byte_order}HHIIHH", fields)
    # The decoder reads 24 bits in 4 bytes, but not if the header is an extensible one.
    padded = code == _PCM and bits == 24 and frame_bytes == 4 * channels
    if code not in (_PCM, _FLOAT, _EXTENSIBLE) or padded or frame_bytes == channels * -(-bits // 8):
        return ""
    return f"the header declares {channels} x {bits} bits in {frame_bytes} bytes: the samples may be wrong"


def _walk(source: ByteSource, chunks: _Chunks, position: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(_MAX_CHUNKS):
        chunk = chunks.read(source, position)
        if chunk is None:
            return
        yield chunk
        if not position < chunk[2] < source.size:
            return
        position = chunks.after(source, position, chunk[2])


def _au_audio(source: ByteSource, start: int) -> _Audio | None:
    head = source.read(start, 12)
    if len(head) < 12 or head[:4] not in (b".snd", b"dns."):
        return None
    order = ">" if head[:4] == b".snd" else "<"
    offset, size = struct.unpack(order + "II", head[4:])
    return _Audio(start + offset, size, start + 8, struct.Struct(order + "I")) if offset >= 24 else None


def _nist_audio(source: ByteSource, start: int) -> _Audio | None:
    header = source.read(start, _NIST_HEADER)
    if not header.startswith(b"NIST_1A\n   1024\n"):
        return None
    fields = dict(re.findall(rb"(\w+) -i (\d+)", header))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    if not all(name in fields for name in names):
        return None
    count, channels, width = (int(fields[name]) for name in names)
    return _Audio(start + _NIST_HEADER, count * channels * width)


def _stream(
    source: ByteSource, start: int, chunks: _Chunks | None, audio: _Audio
) -> tuple[Stream, int | None]:
    """Return the stream at `start`, and the start of the next one."""
    present = max(0, source.size - audio.start)
    unknown = audio.is_unknown(present)
    if present and (unknown or (audio.declared <= 0 and not _is_chunk_list(source, chunks, audio.start))):
        end = _start_of_last_chunks(source, chunks, audio.start)
        header = audio.header(source, start, end - audio.start)
        return Stream(audio.start, end, header, warning="" if unknown else _NEVER_CLOSED), None
    if audio.declared > present:
        end = _start_of_last_chunks(source, chunks, audio.start)
        present = max(0, end - audio.start)
        header = audio.header(source, start, present)
        return Stream(audio.start, end, header, audio.declared, present, audio.declared_frames), None
    following, rest = _following(source, start, chunks, audio)
    end = source.size if following is None else following
    return Stream(start, end, warning=_rest_warning(source, rest, audio.declared)), following


def _following(
    source: ByteSource, start: int, chunks: _Chunks | None, audio: _Audio
) -> tuple[int | None, int]:
    """Return the start of the next stream after the audio, and where the last known chunk ends."""
    position = audio.start + audio.declared
    if position >= source.size:
        return None, source.size
    magic = source.read(start, 4)
    if source.read(position, 4) == magic:
        return position, source.size
    if chunks is None:
        return None, position
    position = chunks.after(source, audio.start, position)
    for _ in range(_MAX_CHUNKS):
        if source.read(position, 4) == magic and _container(source, position) is not None:
            return position, source.size
        chunk = chunks.read(source, position)
        if chunk is None or not position < chunk[2] <= source.size + 1:
            break
        position = chunks.after(source, position, chunk[2])
    return None, position


def _is_chunk_list(source: ByteSource, chunks: _Chunks | None, position: int) -> bool:
    """Return whether only complete chunks follow up to the end of the file."""
    if chunks is None:
        return False
    ends = [end for _, _, end in _walk(source, chunks, position)]
    return bool(ends) and source.size - 8 < ends[-1] <= source.size + 1


def _start_of_last_chunks(source: ByteSource, chunks: _Chunks | None, start: int) -> int:
    """Return where audio of unknown length ends: before the chunks at the end of the file, if any."""
    tail_start = max(start, source.size - _TAIL_BYTES)
    if chunks is not None:
        for match in _ANY_CHUNK_ID.finditer(source.read(tail_start, _TAIL_BYTES)):
            if _is_chunk_list(source, chunks, tail_start + match.start()):
                return tail_start + match.start()
    return source.size


def _rest_warning(source: ByteSource, rest: int, declared: int) -> str:
    size, first = source.size - rest, source.read(rest, 512)
    # Files are padded with zeros, or with what erased flash memory holds.
    if size <= max(_MAX_REST_BYTES, _MAX_REST_FRACTION * declared) or first.count(first[:1]) == len(first):
        return ""
    return f"{size} bytes after the declared end of the audio are not used"

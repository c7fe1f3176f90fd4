"""Decode audio files: mix down to mono, resample, trim silence, crop or pad to a fixed length.

Functions take and return float32 arrays of shape `(num_samples,)` unless stated otherwise.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from pydantic import Field

from models.config import Config
from pipeline.io.files import write_atomically

# Frames per block read from a file, so that memory grows with the mono length and not with channels x length.
BLOCK_FRAMES = 1 << 18
# Above this many input frames the resampler streams as well; below it, one call is faster.
STREAM_FRAMES = 1 << 22
# A corrupt header with a lower sample rate (Hz) would expand a small file to gigabytes.
MIN_SAMPLE_RATE = 100
# soxr quality: errors below the 16-bit noise floor, in half the time of the next higher one.
RESAMPLE_QUALITY = "HQ"
# As in librosa.effects.trim: hop length, and minimum power that is not silence.
TRIM_HOP = 512
TRIM_AMIN = 1e-10

# Line of libsndfile's log with the length that a header declares and, after "should be", the length of the
# file.
_HEADER_LENGTH = re.compile(r"\s*(.+?)\s*: (\d+) \(should be (\d+)\)")
# Name of that line in each format.
_LENGTH_FIELDS = {
    "WAV": "data",
    "WAVEX": "data",
    "AIFF": "SSND",
    "AU": "Data Size",
    "RF64": "Riff size",
    "W64": "riff",
    "CAF": "data",
    "SVX": "BODY",
}
# Programs that write to a pipe cannot fill in the length afterwards; they declare one near 2 or 4 GiB
# instead.
_UNKNOWN_LENGTH = 0x7F000000
_LONG_FORMATS = ("RF64", "W64", "CAF")
_OGG_PAGE = 1 << 16

EXTENSIONS = frozenset(
    "aif aifc aiff au avr caf flac htk ircam mat mp1 mp2 mp3 mpc nist oga ogg opus paf pvf rf64 sd2".split()
    + "sds sf snd svx voc w64 wav wave wve xi".split()
)


class DecodeConfig(Config):
    """Tolerance for damaged audio files."""

    min_complete: float = Field(0.75, ge=0, le=1)
    """Use a truncated audio file if at least this fraction of its declared samples is there, with a
    warning in warnings.csv; 1 rejects every truncated file."""


class AudioDecodeError(Exception):
    """Raised for a file without usable audio; the message is the reason given in `rejected.csv`."""


def is_audio(path: str | os.PathLike[str]) -> bool:
    """Return whether a file name has an extension that libsndfile reads; False for hidden files."""
    stem, _, extension = os.fspath(path).rpartition("/")[2].rpartition(".")
    return stem != "" and not stem.startswith(".") and extension.lower() in EXTENSIONS


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
    """
    handle: str | BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
    if (len(source) if isinstance(source, bytes) else _size(os.fspath(source))) == 0:
        raise AudioDecodeError("empty file (0 bytes)")
    try:
        with soundfile.SoundFile(handle) as sound:
            if sound.samplerate < MIN_SAMPLE_RATE:
                raise AudioDecodeError(f"unreadable: implausible sample rate ({sound.samplerate} Hz)")
            _check_not_truncated(sound, source)
            samples = _read_mono(sound, sample_rate, _length_is_reliable(sound, source))
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        # libsndfile's message for an MP3 without frames, whether or not the file exists.
        if reason.startswith("File does not exist"):
            reason = "Format not recognised"
        raise AudioDecodeError(f"unreadable: {reason}") from None
    except (soundfile.SoundFileRuntimeError, RuntimeError, TypeError, OSError) as error:
        raise AudioDecodeError(f"unreadable: {error}") from None
    if samples.size == 0:
        raise AudioDecodeError("no samples")
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.dot(samples, samples)
    if not np.isfinite(energy):
        raise AudioDecodeError("values that are not finite (NaN, infinity, or float32 overflow when squared)")
    return samples


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        raise AudioDecodeError("no such file") from None
    except (OSError, ValueError) as error:  # ValueError: NUL byte in the name
        raise AudioDecodeError(f"unreadable: {getattr(error, 'strerror', None) or error}") from None


def _span(source: str | os.PathLike[str] | bytes, start: int, size: int) -> bytes:
    """Return `size` bytes from offset `start`; a negative one counts from the end."""
    if isinstance(source, bytes):
        return source[start:][:size]
    with open(source, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end + start) if start < 0 else start)
        return file.read(size)


def _check_not_truncated(sound: soundfile.SoundFile, source: str | os.PathLike[str] | bytes) -> None:
    """Raise `AudioDecodeError` if the file is shorter than its header declares.

    libsndfile repairs such a header silently and reports it only in its log.
    """
    if sound.format == "OGG" and _last_page_truncated(_span(source, -_OGG_PAGE, _OGG_PAGE)):
        raise AudioDecodeError("truncated: incomplete last Ogg page")
    for line in sound.extra_info.splitlines():
        match = _HEADER_LENGTH.match(line)
        if match is None or match[1] != _LENGTH_FIELDS.get(sound.format):
            continue
        declared, actual = int(match[2]), int(match[3])
        if actual < declared and (declared < _UNKNOWN_LENGTH or sound.format in _LONG_FORMATS):
            raise AudioDecodeError(f"truncated: header declares {declared} bytes, file has {actual}")


def _last_page_truncated(tail: bytes) -> bool:
    """Return whether an Ogg file with the final bytes `tail` is cut off within its last page (RFC 3533)."""
    start = tail.rfind(b"OggS\0")
    if start < 0:
        return False
    header, page = 27, tail[start:]
    if len(page) < header or len(page) < header + page[26]:
        return True
    return len(page) < header + page[26] + sum(page[header : header + page[26]])


def _length_is_reliable(sound: soundfile.SoundFile, source: str | os.PathLike[str] | bytes) -> bool:
    """Return whether `sound.frames` is exact.

    For an MP3 without a Xing or Info header, it is an estimate from the bit rate of the first frame.
    """
    if sound.format != "MP3":
        return True
    start, tag = 0, _span(source, 0, 10)
    if tag.startswith(b"ID3") and len(tag) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    first = _span(source, start, 256)
    return b"Xing" in first or b"Info" in first


def _read_mono(sound: soundfile.SoundFile, sample_rate: int, length_is_reliable: bool) -> np.ndarray:
    if sound.frames > STREAM_FRAMES and sound.samplerate != sample_rate:
        stream = soxr.ResampleStream(
            sound.samplerate, sample_rate, 1, dtype="float32", quality=RESAMPLE_QUALITY
        )
        blocks = [stream.resample_chunk(block) for block in _mono_blocks(sound, length_is_reliable)]
        return np.concatenate([*blocks, stream.resample_chunk(np.zeros(0, np.float32), last=True)])
    blocks = list(_mono_blocks(sound, length_is_reliable))
    mono = blocks[0] if len(blocks) == 1 else np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return resample(mono, sound.samplerate, sample_rate)


def _read_block(sound: soundfile.SoundFile) -> np.ndarray:
    """Read the next frames `[shape=(num_frames, channels)]`, float32."""
    if sound.subtype != "PCM_16" or sound.format == "FLAC":
        return sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
    # The same values as dtype="float32"; numpy converts in a fifth of libsndfile's time.
    block = sound.read(BLOCK_FRAMES, dtype="int16", always_2d=True).astype(np.float32)
    block *= np.float32(1 / 32768)
    return block


def _mono_blocks(sound: soundfile.SoundFile, length_is_reliable: bool) -> Iterator[np.ndarray]:
    """Yield the mean over channels, block by block.

    Raises:
        AudioDecodeError: the file ends before the length that its header declares.
    """
    frames = 0
    while True:
        block = _read_block(sound)
        frames += len(block)
        if len(block):
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if len(block) < BLOCK_FRAMES:
            break
    # For compressed formats that declare no length, libsndfile reports about 2**62 frames.
    if length_is_reliable and frames < sound.frames < 1 << 60:
        raise AudioDecodeError(f"truncated: {frames} of {sound.frames} samples")


def resample(samples: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resample between any two rates in Hz, band-limited (soxr HQ); never to fewer than one sample."""
    if from_rate == to_rate or samples.size == 0:
        return samples
    out = soxr.resample(samples, from_rate, to_rate, quality=RESAMPLE_QUALITY)
    return out if out.size else samples[:1].copy()


def trim_silence(samples: np.ndarray, top_db: float) -> np.ndarray:
    """Trim both ends where the RMS is more than `top_db` dB below that of the loudest frame.

    Equal to `librosa.effects.trim`: centered frames of four hops. Samples that are all silent are returned
    untrimmed.
    """
    num_hops = samples.size // TRIM_HOP
    hops, rest = samples[: num_hops * TRIM_HOP].reshape(num_hops, TRIM_HOP), samples[num_hops * TRIM_HOP :]
    energy = np.zeros(num_hops + 4, np.float32)
    energy[2:-2] = np.einsum("ij,ij->i", hops, hops)
    energy[-2] = np.dot(rest, rest)
    power = (energy[:-3] + energy[1:-2] + energy[2:-1] + energy[3:]) / np.float32(4 * TRIM_HOP)
    power = np.maximum(power, np.float32(TRIM_AMIN))
    loud = np.flatnonzero(power > power.max() * np.float32(10 ** (-top_db / 10)))
    return samples[loud[0] * TRIM_HOP : (loud[-1] + 1) * TRIM_HOP]


def write_wav(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write mono samples in [-1, 1] as a 16-bit WAV file, atomically."""
    write_atomically(
        path, lambda file: soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")
    )


def fix_length(samples: np.ndarray, num_samples: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Crop or zero-pad samples to `num_samples`.

    The crop is centered, or with `rng` at a uniformly random position; zeros are appended at the end.
    """
    excess = samples.size - num_samples
    if excess > 0:
        start = excess // 2 if rng is None else int(rng.integers(excess + 1))
        return samples[start : start + num_samples]
    if excess < 0:
        return np.pad(samples, (0, -excess))
    return samples

"""From a file of any kind to mono samples at one rate: decode, mix down, resample, trim, fix the length.

Pure signal code; every function takes and returns float32 arrays of shape `(num_samples,)` unless it says otherwise.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from pipeline.io.files import write_atomically

# A file is read in pieces of this many frames, so that memory follows the mono length and not channels x length.
BLOCK_FRAMES = 1 << 18
# Above this many input frames the resampler streams too; below it one call is faster.
STREAM_FRAMES = 1 << 22
# A damaged header with a lower rate would blow a small file up to gigabytes.
MIN_RATE = 100
# soxr's quality: below the 16-bit noise floor, half the time of the next one.
RESAMPLE_QUALITY = "HQ"
# librosa.effects.trim's: the distance of frames, and the least power that is not called silence.
TRIM_HOP = 512
TRIM_AMIN = 1e-10

# Where libsndfile's log states the length that a header promises, and, after "should be", the one that the file has.
_HEADER_LENGTH = re.compile(r"\s*(.+?)\s*: (\d+) \(should be (\d+)\)")
_PROMISE_LINES = {
    "WAV": "data",
    "WAVEX": "data",
    "AIFF": "SSND",
    "AU": "Data Size",
    "RF64": "Riff size",
    "W64": "riff",
    "CAF": "data",
    "SVX": "BODY",
}
# Programs that write to a pipe can't go back to put in the length, and state one near 2 or 4 GiB instead.
_UNKNOWN_LENGTH = 0x7F000000
_LONG_FORMATS = ("RF64", "W64", "CAF")
_OGG_PAGE = 1 << 16

EXTENSIONS = frozenset(
    "aif aifc aiff au avr caf flac htk ircam mat mp1 mp2 mp3 mpc nist oga ogg opus paf pvf rf64 sd2 sds sf snd svx".split()
    + "voc w64 wav wave wve xi".split()
)


class AudioDecodeError(Exception):
    """A file that holds no usable sound; the text is the reason, fit for `rejected.csv`."""


def is_audio(path: str | os.PathLike[str]) -> bool:
    """Whether the name ends like one of the formats that libsndfile reads; hidden files never do."""
    name = os.fspath(path)
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    return stem != "" and not stem.startswith(".") and ending.lower() in EXTENSIONS


def decode(source: str | os.PathLike[str] | bytes, sample_rate: int) -> np.ndarray:
    """Reads a sound as mono at `sample_rate`.

    Args:
        source: a path, or the bytes of a file.
        sample_rate: wanted rate in Hz.

    Returns:
        Samples `[shape=(num_samples,)]`, float32, full scale is 1; integer formats lie in [-1, 1].

    Raises:
        BadAudio: missing, empty, unreadable, truncated, without samples, or with values that are not finite.
    """
    handle: str | BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
    if (len(source) if isinstance(source, bytes) else _size(os.fspath(source))) == 0:
        raise AudioDecodeError("empty file (0 bytes)")
    try:
        with soundfile.SoundFile(handle) as sound:
            if sound.samplerate < MIN_RATE:
                raise AudioDecodeError(f"unreadable: a sample rate of {sound.samplerate} Hz")
            _check_not_truncated(sound, source)
            samples = _read_mono(sound, sample_rate, _length_is_reliable(sound, source))
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        # What libsndfile says of an MP3 without a frame, whether or not the file is there.
        raise AudioDecodeError(
            f"unreadable: {'Format not recognised' if reason.startswith('File does not exist') else reason}"
        ) from None
    except (soundfile.SoundFileRuntimeError, RuntimeError, TypeError, OSError) as error:
        raise AudioDecodeError(f"unreadable: {error}") from None
    if samples.size == 0:
        raise AudioDecodeError("no samples")
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.dot(samples, samples)
    if not np.isfinite(energy):
        raise AudioDecodeError("values that are not finite (NaN, infinite, or beyond float32 when squared)")
    return samples


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        raise AudioDecodeError("no such file") from None
    except (OSError, ValueError) as error:  # the second for a NUL in the name
        raise AudioDecodeError(f"unreadable: {getattr(error, 'strerror', None) or error}") from None


def _span(source: str | os.PathLike[str] | bytes, start: int, size: int) -> bytes:
    """`size` bytes from `start`, which counts from the end where it is negative."""
    if isinstance(source, bytes):
        return source[start:][:size]
    with open(source, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end + start) if start < 0 else start)
        return file.read(size)


def _check_not_truncated(sound: soundfile.SoundFile, source: str | os.PathLike[str] | bytes) -> None:
    """libsndfile mends a header that promises more than the file holds, and says so only in its log."""
    if sound.format == "OGG" and _last_page_truncated(_span(source, -_OGG_PAGE, _OGG_PAGE)):
        raise AudioDecodeError("truncated: the last Ogg page is not whole")
    for line in sound.extra_info.splitlines():
        found = _HEADER_LENGTH.match(line)
        if found is None or found[1] != _PROMISE_LINES.get(sound.format):
            continue
        promised, there = int(found[2]), int(found[3])
        if there < promised and (promised < _UNKNOWN_LENGTH or sound.format in _LONG_FORMATS):
            raise AudioDecodeError(f"truncated: header promises {promised} bytes, {there} are there")


def _last_page_truncated(tail: bytes) -> bool:
    """Whether an Ogg file with this end breaks off in its last page (RFC 3533)."""
    start = tail.rfind(b"OggS\0")
    if start < 0:
        return False
    header, page = 27, tail[start:]
    if len(page) < header or len(page) < header + page[26]:
        return True
    return len(page) < header + page[26] + sum(page[header : header + page[26]])


def _length_is_reliable(sound: soundfile.SoundFile, source: str | os.PathLike[str] | bytes) -> bool:
    """Whether `sound.frames` is more than a guess: without a Xing or Info header, that of an MP3 comes from its first frame's bit rate."""
    if sound.format != "MP3":
        return True
    start, tag = 0, _span(source, 0, 10)
    if tag.startswith(b"ID3") and len(tag) == 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    first = _span(source, start, 256)
    return b"Xing" in first or b"Info" in first


def _read_mono(sound: soundfile.SoundFile, sample_rate: int, length_is_known: bool) -> np.ndarray:
    if sound.frames > STREAM_FRAMES and sound.samplerate != sample_rate:
        stream = soxr.ResampleStream(
            sound.samplerate, sample_rate, 1, dtype="float32", quality=RESAMPLE_QUALITY
        )
        pieces = [stream.resample_chunk(piece) for piece in _mono_pieces(sound, length_is_known)]
        return np.concatenate([*pieces, stream.resample_chunk(np.zeros(0, np.float32), last=True)])
    pieces = list(_mono_pieces(sound, length_is_known))
    mono = pieces[0] if len(pieces) == 1 else np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    return resample(mono, sound.samplerate, sample_rate)


def _read_piece(sound: soundfile.SoundFile) -> np.ndarray:
    """The next frames `[shape=(num_frames, channels)]`, float32."""
    if sound.subtype != "PCM_16" or sound.format == "FLAC":
        return sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
    # The same values; numpy converts in a fifth of libsndfile's time.
    piece = sound.read(BLOCK_FRAMES, dtype="int16", always_2d=True).astype(np.float32)
    piece *= np.float32(1 / 32768)
    return piece


def _mono_pieces(sound: soundfile.SoundFile, length_is_known: bool) -> Iterator[np.ndarray]:
    """Yields the mean over channels, piece by piece.

    Raises:
        BadAudio: when the file ends before the length that its header states.
    """
    frames = 0
    while True:
        piece = _read_piece(sound)
        frames += len(piece)
        if len(piece):
            yield piece[:, 0] if piece.shape[1] == 1 else piece.mean(axis=1, dtype=np.float32)
        if len(piece) < BLOCK_FRAMES:
            break
    # Compressed formats without a stated length report one of 2**62 or so.
    if length_is_known and frames < sound.frames < 1 << 60:
        raise AudioDecodeError(f"truncated: {frames} of {sound.frames} samples")


def resample(samples: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Band-limited resampling (soxr HQ) between any two rates in Hz; always at least one sample for one."""
    if from_rate == to_rate or samples.size == 0:
        return samples
    out = soxr.resample(samples, from_rate, to_rate, quality=RESAMPLE_QUALITY)
    return out if out.size else samples[:1].copy()


def trim_silence(samples: np.ndarray, top_db: float) -> np.ndarray:
    """Cuts both ends where the RMS lies more than `top_db` dB below the loudest frame.

    The definition is `librosa.effects.trim`: centred frames of four hops. A sound that is silent throughout is returned whole.
    """
    whole = samples.size // TRIM_HOP
    hops, rest = samples[: whole * TRIM_HOP].reshape(whole, TRIM_HOP), samples[whole * TRIM_HOP :]
    energy = np.zeros(whole + 4, np.float32)
    energy[2:-2] = np.einsum("ij,ij->i", hops, hops)
    energy[-2] = np.dot(rest, rest)
    power = (energy[:-3] + energy[1:-2] + energy[2:-1] + energy[3:]) / np.float32(4 * TRIM_HOP)
    power = np.maximum(power, np.float32(TRIM_AMIN))
    loud = np.flatnonzero(power > power.max() * np.float32(10 ** (-top_db / 10)))
    return samples[loud[0] * TRIM_HOP : (loud[-1] + 1) * TRIM_HOP]


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes mono samples in [-1, 1] as 16-bit WAV, whole or not at all."""
    write_atomically(path, lambda file: soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16"))


def fix_length(samples: np.ndarray, num_samples: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Exactly `num_samples`: a longer sound is cropped, a shorter one gets silence at its end.

    The crop is the middle, or with `rng` any place with equal chance.
    """
    excess = samples.size - num_samples
    if excess > 0:
        start = excess // 2 if rng is None else int(rng.integers(excess + 1))
        return samples[start : start + num_samples]
    if excess < 0:
        return np.pad(samples, (0, -excess))
    return samples

"""A zoo of sound files: every format that can be written, and every way for a file to be broken.

Good files hold a sine of `HERTZ` with the peak `LEVEL`; broken ones come with a pattern of the reason for their rejection.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
HERTZ = 440.0
LEVEL = 0.5

RATES = (8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)

# What libsndfile lists and can't write, or can't read back whole: XI knows neither rate nor length.
_NOT_WRITTEN = {("MP3", "MPEG_LAYER_I"), ("MP3", "MPEG_LAYER_II"), ("WAV", "MPEG_LAYER_III")}
_NOT_READ = {
    ("AIFF", "DWVW_12"),
    ("AIFF", "DWVW_16"),
    ("AIFF", "DWVW_24"),
    ("XI", "DPCM_8"),
    ("XI", "DPCM_16"),
}
FORMATS = [
    (name, subtype)
    for name in soundfile.available_formats()
    if name != "RAW"  # has no header, so it needs to be told everything
    for subtype in soundfile.available_subtypes(name)
    if (name, subtype) not in _NOT_WRITTEN | _NOT_READ
]
# Of those, the ones in which a missing end can be noticed; the others state no length.
CHECKED_FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "FLOAT"),
    ("WAV", "MS_ADPCM"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AIFF", "FLOAT"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("SVX", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def sine(hertz: float = HERTZ, seconds: float = 1.0, rate: int = RATE, level: float = LEVEL) -> np.ndarray:
    """A pure tone, float32."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float = 1.0, rate: int = RATE, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """White noise, float32, whose RMS is `level`."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def peak_hertz(samples: np.ndarray, rate: int) -> float:
    """The frequency at which the spectrum is highest, to a small part of a bin."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 8 * samples.size))
    return float(spectrum.argmax() * rate / (8 * samples.size))


def rms(samples: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def encoded(
    samples: np.ndarray, name: str = "WAV", subtype: str | None = "PCM_16", rate: int = RATE
) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=name, subtype=subtype)
    return file.getvalue()


def without_length(wav: bytes, size: int = 0xFFFFFFFF) -> bytes:
    """A WAV as a program writes it into a pipe: the header was made before the length was known."""
    data = wav.index(b"data") + 4
    return wav[:4] + struct.pack("<I", 0xFFFFFFFF) + wav[8:data] + struct.pack("<I", size) + wav[data + 4 :]


def without_first_frame(mp3: bytes) -> bytes:
    """An MP3 without the frame that states its length; older encoders write none, and cutting tools lose it."""
    return mp3[mp3.index(mp3[:2], 4) :]


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Name to content and to a regular expression of the reason for which it must be rejected."""
    tone, half = sine(seconds=2.0), np.full(RATE, 0.5, np.float32)
    nan, inf = half.copy(), half.copy()
    nan[4000], inf[4000] = np.nan, np.inf
    files = {
        "empty.wav": (b"", r"^empty file \(0 bytes\)$"),
        "empty.mp3": (b"", r"^empty file \(0 bytes\)$"),
        "text.wav": (b"This is not sound.\n" * 20, r"^unreadable: Format not recognised$"),
        "text.mp3": (b"This is not sound.\n" * 20, r"^unreadable: Format not recognised$"),
        "zeros.flac": (bytes(5000), r"^unreadable: "),
        "header only.wav": (encoded(tone[:0]), r"^no samples$"),
        "header only.aiff": (encoded(tone[:0], "AIFF"), r"^no samples$"),
        "nan.wav": (encoded(nan, subtype="FLOAT"), r"^values that are not finite"),
        "infinite.wav": (encoded(inf, subtype="FLOAT"), r"^values that are not finite"),
        "infinite in one channel.aiff": (
            encoded(np.stack([half, inf], 1), "AIFF", "FLOAT"),
            r"^values that are not finite",
        ),
        "one hertz.wav": (encoded(tone, rate=1), r"^unreadable: a sample rate of 1 Hz$"),
    }
    for name, subtype, ending in (
        ("WAV", "PCM_16", "wav"),
        ("AIFF", "PCM_16", "aiff"),
        ("MP3", "MPEG_LAYER_III", "mp3"),
    ):
        whole = encoded(tone, name, subtype)
        files[f"truncated.{ending}"] = whole[: len(whole) * 6 // 10], r"^truncated: "
    ogg, flac = encoded(noise(10.0), "OGG", "VORBIS"), encoded(tone, "FLAC")
    files["truncated.ogg"] = ogg[: len(ogg) * 6 // 10], r"^truncated: "
    files["truncated.flac"] = flac[: len(flac) * 6 // 10], r"^(truncated|unreadable): "
    return files


def write_broken(folder: Path) -> dict[Path, str]:
    """Writes the broken files into `folder`; each path with the pattern of its reason."""
    folder.mkdir(parents=True, exist_ok=True)
    reasons = {}
    for name, (content, reason) in broken_files().items():
        (folder / name).write_bytes(content)
        reasons[folder / name] = reason
    return reasons


def write_good(folder: Path) -> list[Path]:
    """Writes a second of the tone in many formats, rates and channel counts, and under difficult names."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    kinds = [
        ("wav", "PCM_16", 1, RATE),
        ("wav", "PCM_U8", 2, 11_025),
        ("wav", "PCM_24", 4, 48_000),
        ("wav", "FLOAT", 1, 192_000),
    ]
    kinds += [
        ("aiff", "PCM_16", 8, RATE),
        ("flac", "PCM_24", 2, 96_000),
        ("ogg", "VORBIS", 1, 44_100),
        ("mp3", "MPEG_LAYER_III", 2, 22_050),
    ]
    for ending, subtype, channels, rate in kinds:
        written.append(folder / f"{subtype} {channels} × {rate} Ünï-日本.{ending}")
        soundfile.write(written[-1], np.stack([sine(rate=rate)] * channels, 1), rate, subtype=subtype)
    written.append(folder / "one sample.wav")
    soundfile.write(written[-1], sine()[1:2], RATE)
    written.append(folder / "PIPE.WAV")
    written[-1].write_bytes(without_length(encoded(sine())))
    return written

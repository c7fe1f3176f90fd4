"""Audio files in every format that libsndfile writes, and invalid files of many kinds.

Valid files contain a sine of frequency `TONE_HZ` and peak `TONE_PEAK`; invalid ones come with a regular
expression of the reason for their rejection.
"""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
TONE_HZ = 440.0
TONE_PEAK = 0.5

RATES = (8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)

# Formats that libsndfile lists but cannot write, or not read back: XI stores neither rate nor length.
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
    if name != "RAW"  # has no header
    for subtype in soundfile.available_subtypes(name)
    if (name, subtype) not in _NOT_WRITTEN | _NOT_READ
]
# Formats that declare their length.
LENGTH_CHECKED_FORMATS = [
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
    ("NIST", "PCM_16"),
    ("MP3", "MPEG_LAYER_III"),
]


def sine(
    frequency: float = TONE_HZ, seconds: float = 1.0, rate: int = RATE, level: float = TONE_PEAK
) -> np.ndarray:
    """Generate a sine with peak `level`, float32."""
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def noise(seconds: float = 1.0, rate: int = RATE, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """Generate white noise of RMS `level`, float32."""
    return (level * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


def peak_frequency(samples: np.ndarray, rate: int) -> float:
    """Return the frequency of the spectral maximum in Hz, to an eighth of a bin."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), 8 * samples.size))
    return float(spectrum.argmax() * rate / (8 * samples.size))


def rms(samples: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def encode(samples: np.ndarray, name: str = "WAV", subtype: str | None = "PCM_16", rate: int = RATE) -> bytes:
    """Encode samples as the content of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=name, subtype=subtype)
    return file.getvalue()


def clear_wav_length(wav: bytes, size: int = 0xFFFFFFFF) -> bytes:
    """Set the length in a WAV header to an unknown one, as programs do that write to a pipe."""
    return set_wav_sizes(wav, 0xFFFFFFFF, size)


def set_wav_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """Set the two sizes in the header of a WAV file."""
    position = wav.index(b"data") + 4
    return b"".join(
        [wav[:4], struct.pack("<I", riff), wav[8:position], struct.pack("<I", data), wav[position + 4 :]]
    )


def set_mp3_frame_count(mp3: bytes, difference: int) -> bytes:
    """Change the number of frames that the header of an MP3 file declares."""
    position = re.search(b"Xing|Info", mp3).end() + 4
    (count,) = struct.unpack(">I", mp3[position : position + 4])
    return mp3[:position] + struct.pack(">I", count + difference) + mp3[position + 4 :]


def encode_mp3(samples: np.ndarray, rate: int = RATE, is_constant: bool = True) -> bytes:
    """Encode at a constant or a variable bit rate, the latter with a bit rate that is as low as possible."""
    file, channels = io.BytesIO(), 1 if samples.ndim == 1 else samples.shape[1]
    mode, level = ("CONSTANT", 0.5) if is_constant else ("VARIABLE", 0.6)
    with soundfile.SoundFile(
        file, "w", rate, channels, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode, compression_level=level
    ) as sound:
        sound.write(samples)
    return file.getvalue()


def drop_first_mp3_frame(mp3: bytes) -> bytes:
    """Remove the frame that stores the length of an MP3; old encoders and cutting tools omit it."""
    return mp3[mp3.index(mp3[:2], 4) :]


def broken_files() -> dict[str, tuple[bytes, str]]:
    """Return a content and a regular expression of the expected rejection reason for each file name."""
    tone, constant = sine(seconds=2.0), np.full(RATE, 0.5, np.float32)
    nan, inf = constant.copy(), constant.copy()
    nan[4000], inf[4000] = np.nan, np.inf
    files = {
        "empty.wav": (b"", r"^empty file \(0 bytes\)$"),
        "empty.mp3": (b"", r"^empty file \(0 bytes\)$"),
        "text.wav": (b"This is not audio.\n" * 20, r"^unreadable: Format not recognised$"),
        "text.mp3": (b"This is not audio.\n" * 20, r"^unreadable: Format not recognised$"),
        "zeros.flac": (bytes(5000), r"^unreadable: "),
        "header only.wav": (encode(tone[:0]), r"^no samples$"),
        "header only.aiff": (encode(tone[:0], "AIFF"), r"^no samples$"),
        "nan.wav": (encode(nan, subtype="FLOAT"), r"^values that are not finite"),
        "infinite.wav": (encode(inf, subtype="FLOAT"), r"^values that are not finite"),
        "infinite in one channel.aiff": (
            encode(np.stack([constant, inf], 1), "AIFF", "FLOAT"),
            r"^values that are not finite",
        ),
        "one hertz.wav": (encode(tone, rate=1), r"^unreadable: implausible sample rate \(1 Hz\)$"),
    }
    for name, subtype, extension in (
        ("WAV", "PCM_16", "wav"),
        ("AIFF", "PCM_16", "aiff"),
        ("MP3", "MPEG_LAYER_III", "mp3"),
    ):
        content = encode(tone, name, subtype)
        files[f"truncated.{extension}"] = content[: len(content) * 6 // 10], r"^truncated: "
    ogg, flac = encode(noise(10.0), "OGG", "VORBIS"), encode(tone, "FLAC")
    files["truncated.ogg"] = ogg[:2000], r"^unreadable: "
    files["truncated.flac"] = flac[: len(flac) * 6 // 10], r"^(truncated|unreadable): "
    return files


def write_broken_files(folder: Path) -> dict[Path, str]:
    """Write the invalid files into `folder`; return the pattern of the reason for each path."""
    folder.mkdir(parents=True, exist_ok=True)
    reasons = {}
    for name, (content, reason) in broken_files().items():
        (folder / name).write_bytes(content)
        reasons[folder / name] = reason
    return reasons


def write_valid_files(folder: Path) -> list[Path]:
    """Write a second of the tone in many formats, rates and channel counts, with unusual file names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    variants = [
        ("wav", "PCM_16", 1, RATE),
        ("wav", "PCM_U8", 2, 11_025),
        ("wav", "PCM_24", 4, 48_000),
        ("wav", "FLOAT", 1, 192_000),
    ]
    variants += [
        ("aiff", "PCM_16", 8, RATE),
        ("flac", "PCM_24", 2, 96_000),
        ("ogg", "VORBIS", 1, 44_100),
        ("mp3", "MPEG_LAYER_III", 2, 22_050),
    ]
    for extension, subtype, channels, rate in variants:
        paths.append(folder / f"{subtype} {channels} × {rate} Ünï-日本.{extension}")
        soundfile.write(paths[-1], np.stack([sine(rate=rate)] * channels, 1), rate, subtype=subtype)
    paths.append(folder / "one sample.wav")
    soundfile.write(paths[-1], sine()[1:2], RATE)
    paths.append(folder / "PIPE.WAV")
    paths[-1].write_bytes(clear_wav_length(encode(sine())))
    return paths

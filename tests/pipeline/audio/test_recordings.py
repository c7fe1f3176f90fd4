"""Windows of recordings: the samples that decoding the whole file gives, whatever is read together."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import AudioDecodeError, decode
from pipeline.audio.mel import MelConfig, log_mel
from pipeline.audio.recordings import read_recording, read_windows
from tests.helpers.audio_formats import clear_wav_length, drop_first_mp3_frame, encode, noise

RATE, SECONDS, WINDOW = 16_000, 34.5, 5.0
STARTS = [2.5 * number for number in range(13)]
# Seekable formats, those that need previous frames, and those that can only be read from the start.
FORMATS = [
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("CAF", "ALAC_16"),
    ("WAV", "IMA_ADPCM"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AU", "G721_32"),
]


def encode_long(samples: np.ndarray, name: str, subtype: str, rate: int = RATE) -> bytes:
    """Encode samples second by second: libvorbis needs a stack in proportion to what it is given."""
    file = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, format=name, subtype=subtype) as sound:
        for start in range(0, len(samples), rate):
            sound.write(samples[start : start + rate])
    return file.getvalue()


def windows(content: bytes, rate: int = RATE, starts: list[float] = STARTS) -> list[np.ndarray]:
    found = list(read_windows(content, starts, WINDOW, rate))
    assert all(isinstance(window, np.ndarray) for window in found), found
    return found  # type: ignore[return-value]


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
def test_windows_equal_slices_of_decoded_file(name: str, subtype: str):
    samples = noise(SECONDS, RATE)
    content = encode_long(samples if "G721" in subtype else np.stack([samples] * 2, 1), name, subtype)
    whole = decode(content, RATE)
    for start, window in zip(STARTS, windows(content), strict=True):
        first = round(start * RATE)
        np.testing.assert_allclose(window, whole[first : first + round(WINDOW * RATE)], atol=2e-7)
    assert read_recording(content).seconds == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("rate", [22_050, 8000, 44_100, 16_001])
def test_resampled_windows_equal_slices_of_decoded_file(rate: int):
    content = encode_long(noise(SECONDS, RATE), "FLAC", "PCM_16")
    whole = decode(content, rate)
    mel = log_mel(MelConfig(sample_rate=rate, fmax=min(8000, rate / 2)))
    for start, window in zip(STARTS, windows(content, rate), strict=True):
        first = round(start * rate)
        expected = whole[first : first + round(WINDOW * rate)]
        # The resampler sums in another order; at a rate without a common divisor it also interpolates.
        np.testing.assert_allclose(window, expected, atol=1e-4 if rate == 16_001 else 1e-6)
        different = mel(window).astype(np.float16) != mel(expected).astype(np.float16)
        assert different.mean() < 0.02


@pytest.mark.parametrize(("name", "subtype"), FORMATS)
def test_window_does_not_depend_on_the_others(name: str, subtype: str):
    content = encode_long(noise(SECONDS, RATE), name, subtype)
    together = windows(content, 8000)
    # The MP3 decoder rounds differently after each seek.
    tolerance = 1e-6 if name == "MP3" else 0
    for index in (0, 3, 4, 12):
        (alone,) = windows(content, 8000, [STARTS[index]])
        np.testing.assert_allclose(alone, together[index], rtol=0, atol=tolerance)


def test_short_recording_equals_decoded_file_exactly():
    content = encode(np.stack([noise(7.0), noise(7.0, seed=1)], 1), "FLAC", "PCM_16")
    (window,) = windows(content, 22_050, [0.0])
    np.testing.assert_array_equal(window, decode(content, 22_050)[: round(WINDOW * 22_050)])


def test_last_window_has_the_rest(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(encode(noise(7.0)))
    (window,) = read_windows(tmp_path / "a.wav", [5.0], WINDOW, 8000, min_complete=1.0)
    assert isinstance(window, np.ndarray)
    assert window.size == 2 * 8000


def test_channels_are_chosen_for_the_whole_recording():
    """A channel that is silent throughout is not used; one that pauses is."""
    loud, pausing = noise(40.0), noise(40.0, seed=1)
    pausing[: 15 * 8000] = 0
    warnings: list[str] = []
    silent = encode(np.stack([loud, np.zeros_like(loud)], 1), "FLAC")
    (window,) = read_windows(silent, [30.0], WINDOW, 8000, on_warning=warnings.append)
    np.testing.assert_allclose(window, loud[30 * 8000 : 35 * 8000], atol=1e-4)
    assert warnings == ["silent channels of 2, not used: 2"]
    (window,) = windows(encode(np.stack([loud, pausing], 1), "FLAC"), 8000, [0.0])
    np.testing.assert_allclose(window, loud[: 5 * 8000] / 2, atol=1e-4)


@pytest.mark.parametrize(("name", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16")])
def test_single_event_of_a_channel_that_is_otherwise_silent_is_heard(name: str, subtype: str):
    """Eight seconds of a recording determine which channels are silent; an event may be in none of them."""
    other, gated = 0.01 * noise(60.0), np.zeros(60 * 8000, np.float32)
    gated[20 * 8000 : 23 * 8000] = 0.5 * noise(3.0, seed=1)
    content = encode(np.stack([gated, other], 1), name, subtype)
    expected = decode(content, 8000)
    for start in (0.0, 20.0, 40.0):
        (window,) = read_windows(content, [start], WINDOW, 8000)
        assert isinstance(window, np.ndarray)
        whole = expected[round(start * 8000) : round((start + WINDOW) * 8000)]
        # Where only one channel sounds, the mean of both has half of its level.
        level = window.std() / whole.std()
        assert level == pytest.approx(1.0 if start == 20.0 else 2.0, rel=0.02)


@pytest.mark.parametrize("unknown", ["wav", "flac", "mp3"])
def test_recording_of_unknown_length_is_complete(unknown: str):
    if unknown == "wav":
        content = clear_wav_length(encode(noise(31.0)))
    elif unknown == "mp3":
        content = drop_first_mp3_frame(encode(noise(31.0), "MP3", "MPEG_LAYER_III"))
    else:
        flac = bytearray(encode(noise(31.0), "FLAC"))
        flac[21:26] = bytes([flac[21] & 0xF0]) + bytes(4)
        content = bytes(flac)
    assert read_recording(content).seconds == pytest.approx(31.0, abs=0.2)
    whole = decode(content, 8000)
    (window,) = windows(content, 8000, [25.0])
    np.testing.assert_allclose(window, whole[25 * 8000 : 30 * 8000], atol=2e-7)


def test_flac_longer_than_declared_is_complete():
    flac = bytearray(encode(noise(31.0), "FLAC"))
    flac[21:26] = bytes([flac[21] & 0xF0]) + (8000).to_bytes(4, "big")
    warnings: list[str] = []
    (window,) = read_windows(bytes(flac), [25.0], WINDOW, 8000, 1.0, warnings.append)
    np.testing.assert_array_equal(window, decode(bytes(flac), 8000)[25 * 8000 : 30 * 8000])
    assert read_recording(bytes(flac)).seconds == 31.0
    assert warnings == ["the header declares 8000 samples, but more follow: read to the end of the file"]


@pytest.mark.parametrize(("name", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "PCM_16")])
def test_concatenated_recordings_are_one(name: str, subtype: str):
    first, second = (
        encode_long(noise(12.0), name, subtype, 8000),
        encode_long(noise(15.0), name, subtype, 8000),
    )
    whole = decode(first + second, 8000)
    assert read_recording(first + second).seconds == pytest.approx(27.0)
    for start, window in zip(
        (0.0, 10.0, 20.0), windows(first + second, 8000, [0.0, 10.0, 20.0]), strict=True
    ):
        expected = whole[round(start * 8000) :][: 5 * 8000]
        np.testing.assert_allclose(window, expected, atol=2e-7)


def test_unusable_recording_is_an_error(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"no audio" * 10)
    (tmp_path / "empty.wav").write_bytes(b"")
    for name, reason in (
        ("a.wav", r"^unreadable: "),
        ("empty.wav", r"^empty file \(0 bytes\)$"),
        ("missing.wav", r"^no such file$"),
    ):
        with pytest.raises(AudioDecodeError, match=reason):
            read_recording(tmp_path / name)
        with pytest.raises(AudioDecodeError, match=reason):
            next(read_windows(tmp_path / name, [0.0], WINDOW, 8000))
    with pytest.raises(AudioDecodeError, match=r"^no samples$"):
        next(read_windows(encode(noise()[:0]), [0.0], WINDOW, 8000))


def test_reading_the_length_of_content_copies_none_of_it() -> None:
    content = encode_long(noise(125, RATE), "WAV", "PCM_16")
    read_recording(content)
    tracemalloc.start()
    try:
        assert read_recording(content).seconds == 125
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(content) / 4

"""Recordings of which a part is damaged or missing: readable windows, and the position of the others."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from pipeline.audio.recordings import read_recording, read_windows
from tests.helpers.audio_formats import RATE, drop_first_mp3_frame, encode, encode_mp3, noise
from tests.pipeline.audio.test_recordings import encode_long

WINDOW = 2.0
STARTS = [2.0 * number for number in range(30)]


def read(
    content: bytes, min_complete: float = 0.75, starts: list[float] = STARTS
) -> tuple[dict[float, np.ndarray], dict[float, str], list[str]]:
    """Return the readable windows, the reasons of the others, and warnings."""
    samples, reasons, warnings = {}, {}, []
    windows = read_windows(content, starts, WINDOW, RATE, min_complete, warnings.append)
    for start, window in zip(starts, windows, strict=True):
        if isinstance(window, AudioDecodeError):
            reasons[start] = str(window)
        else:
            samples[start] = window
    return samples, reasons, warnings


def damage(content: bytes, fraction: float, size: int = 300, zero: bool = False) -> bytes:
    start = int(len(content) * fraction)
    part = bytes(size) if zero else np.random.default_rng(0).bytes(size)
    return content[:start] + part + content[start + size :]


@pytest.mark.parametrize("zero", [False, True], ids=["random bytes", "zeros"])
@pytest.mark.parametrize("channels", [1, 2])
def test_flac_with_damaged_part_yields_other_windows(channels: int, zero: bool):
    flac = encode(np.stack([noise(60.0, seed=i) for i in range(channels)], 1), "FLAC")
    whole = decode(flac, RATE)
    samples, reasons, _ = read(damage(flac, 0.42, zero=zero))
    assert 1 <= len(reasons) <= 2
    for start, reason in reasons.items():
        assert 22 <= start <= 26
        assert re.fullmatch(r"unreadable from 00:00:2[3-6] to 00:00:2[4-7]", reason)
    for start, window in samples.items():
        np.testing.assert_allclose(window, whole[int(start * RATE) :][: window.size], atol=2e-7)


@pytest.mark.parametrize("kind", ["random bytes", "zeros", "missing bytes"])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_with_damaged_pages_yields_other_windows_at_their_times(subtype: str, kind: str):
    content = encode_long(noise(60.0), "OGG", subtype, RATE)
    whole, _, _ = read(content)
    start = int(len(content) * 0.42)
    broken = damage(content, 0.42, 5000, kind == "zeros")
    samples, reasons, _ = read(
        content[:start] + content[start + 5000 :] if kind == "missing bytes" else broken
    )
    assert 2 <= len(reasons) <= 5
    assert all(20 <= window <= 30 for window in reasons)
    assert all(re.fullmatch(r"unreadable from 00:00:2\d to 00:00:[23]\d", text) for text in reasons.values())
    for position, window in samples.items():
        np.testing.assert_allclose(window, whole[position], atol=2e-3)


@pytest.mark.parametrize("kind", ["300", "5000", "zeros", "missing", "inserted", "two parts"])
@pytest.mark.parametrize("is_constant", [True, False])
def test_mp3_with_damaged_frames_yields_other_windows_at_their_times(kind: str, is_constant: bool):
    content = encode_mp3(noise(60.0, 16_000), 16_000, is_constant)
    whole, _, _ = read(content)
    start = int(len(content) * 0.42)
    broken = {
        "300": damage(content, 0.42),
        "5000": damage(content, 0.42, 5000),
        "zeros": damage(content, 0.42, 20_000, zero=True),
        "missing": content[:start] + content[start + 5000 :],
        "inserted": content[:start] + bytes(5000) + content[start:],
        "two parts": damage(damage(content, 0.42), 0.44),
    }[kind]
    samples, reasons, _ = read(broken)
    assert 1 <= len(reasons) <= 6
    assert all(24 <= window <= 36 for window in reasons)
    assert all(text.startswith("unreadable from 00:00:2") for text in reasons.values())
    for position, window in samples.items():
        np.testing.assert_allclose(window, whole[position], atol=2e-6)


def test_mp3_without_declared_length_keeps_times_after_damaged_bytes():
    content = drop_first_mp3_frame(encode_mp3(noise(60.0)))
    whole, _, _ = read(content)
    for size in (700, 20_000):  # beyond 8 KiB, the frames after it are found as a stream of their own
        broken = damage(content, 0.42, size, zero=True)
        assert read_recording(broken) == read_recording(content)
        samples, reasons, warnings = read(broken)
        assert reasons and not warnings
        for position, window in samples.items():
            np.testing.assert_allclose(window, whole[position], atol=2e-6)
    start = len(content) // 2
    _, _, warnings = read(content[:start] + content[start + 5000 :])
    assert warnings == ["damaged, and without a declared length: times after the damaged part may be wrong"]


def test_tags_of_an_mp3_are_no_damage():
    content = encode_mp3(noise(60.0))
    whole, _, _ = read(content)
    tagged = b"ID3\4\0\0\0\0\1\0" + bytes(128) + content + b"TAG" + bytes(range(125))
    samples, reasons, warnings = read(tagged)
    assert not reasons and not warnings
    assert samples.keys() == whole.keys()
    for position, window in samples.items():
        np.testing.assert_allclose(window, whole[position], atol=2e-6)


def test_values_that_are_not_finite_are_unreadable():
    signal = noise(60.0)
    signal[31 * RATE] = np.nan
    samples, reasons, _ = read(encode(signal, subtype="FLOAT"))
    assert reasons == {30.0: "unreadable from 00:00:31 to 00:00:31"}
    assert all(np.isfinite(window).all() for window in samples.values())


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")],
)
def test_windows_after_actual_end_say_where_it_is(name: str, subtype: str):
    content = encode_long(noise(60.0), name, subtype, RATE)
    cut = content[: int(len(content) * 0.505)]
    samples, reasons, _ = read(cut)
    assert read_recording(cut).seconds == pytest.approx(60.0, abs=0.2)
    assert set(samples) >= {start for start in STARTS if start < 28}
    assert set(reasons) >= {start for start in STARTS if start > 32}
    assert all(re.search(r"the recording ends at 00:00:(29|30|31)\b", text) for text in reasons.values())


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_cut_ogg_has_the_length_of_what_is_there(subtype: str):
    content = encode_long(noise(60.0), "OGG", subtype, RATE)
    cut = content[: len(content) // 2]
    recording = read_recording(cut)
    assert 20 < recording.seconds < 40
    samples, reasons, warnings = read(cut)
    assert max(samples) < recording.seconds
    assert all(text.startswith("the recording ends at 00:00:") for text in reasons.values())
    assert "truncated: the end is missing, by an unknown amount" in warnings


def test_partly_available_window_follows_min_complete():
    cut = encode(noise(60.0))[: 44 + 2 * RATE * 31]
    samples, reasons, warnings = read(cut, 0.5, [28.0, 30.0])
    assert [window.size for window in samples.values()] == [2 * RATE, RATE]
    assert warnings == ["truncated: the recording ends at 00:00:31, 50.0 % of the window"]
    _, reasons, warnings = read(cut, 0.6, [28.0, 30.0])
    assert reasons == {
        30.0: "truncated: the recording ends at 00:00:31, 50.0 % of the window, less than --min-complete 0.6"
    }
    assert warnings == []


@pytest.mark.parametrize("rate", [48_000, 96_000, 192_000])
def test_last_window_of_intact_recordings_is_complete(rate: int):
    """The resampler rounds some lengths of half a sample down."""
    for hundredths in range(1103, 1130, 2):
        content, warnings = encode(noise(hundredths / 100, rate), rate=rate), list[str]()
        windows = list(read_windows(content, [0.0, 5.0, 10.0], 5.0, 22_050, 1.0, warnings.append))
        assert not any(isinstance(window, AudioDecodeError) for window in windows)
        assert not any("truncated" in text for text in warnings)


def test_window_beyond_declared_end_says_where_it_is():
    samples, reasons, _ = read(encode(noise(61.0)), 1.0, [60.0, 62.0, 100.0])
    assert samples[60.0].size == RATE
    assert reasons == dict.fromkeys((62.0, 100.0), "the recording ends at 00:01:01")

"""Formats that only FFmpeg reads, by PyAV, if that is installed (`pip install 'melray[av]'`)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from pipeline.audio.features import load_clip
from pipeline.audio.recordings import read_recording, read_windows
from tests.helpers.audio_formats import noise, peak_frequency, rms, sine
from tests.helpers.sounds import SMALL_FEATURES

HAS_AV = importlib.util.find_spec("av") is not None
needs_av = pytest.mark.skipif(not HAS_AV, reason="needs PyAV")
RATE = 48_000
# File name, encoder, and the RMS of the difference between a window and the whole file: an AAC
# decoder replaces some noise by random numbers.
FORMATS = [
    ("a.m4a", "aac", 5e-3),
    ("a.mp4", "aac", 5e-3),
    ("a.aac", "aac", 1e-6),
    ("a.webm", "libopus", 1e-6),
    ("alac.m4a", "alac", 1e-6),
    ("a.ac3", "ac3", 1e-6),
    ("a.wv", "wavpack", 1e-6),
]


def write_with_av(path: Path, codec: str, samples: np.ndarray, rate: int = RATE) -> Path:
    """Encode samples `[shape=(num_samples,)]` or `[shape=(channels, num_samples)]` with FFmpeg."""
    import av

    rows = np.atleast_2d(samples)
    layout = "mono" if len(rows) == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.layout = layout
        stream.codec_context.open()
        convert = av.AudioResampler(
            stream.codec_context.format.name, layout, rate, stream.codec_context.frame_size or None
        )
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(rows), "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        for part in [*convert.resample(frame), *convert.resample(None), None]:
            for packet in stream.encode(part):
                container.mux(packet)
    return path


@needs_av
@pytest.mark.parametrize(("name", "codec", "tolerance"), FORMATS)
def test_clip_is_decoded_by_av(name: str, codec: str, tolerance: float, tmp_path: Path):
    path = write_with_av(tmp_path / name, codec, np.stack([sine(440.0, 3.0, RATE)] * 2))
    for source in (path, path.read_bytes()):
        samples = decode(source, 16_000)
        assert samples.size == pytest.approx(3 * 16_000, abs=1600)
        assert peak_frequency(samples[8000:40_000], 16_000) == pytest.approx(440, abs=1)
    assert load_clip(str(path), SMALL_FEATURES).size > 0


@needs_av
@pytest.mark.parametrize(("name", "codec", "tolerance"), FORMATS)
def test_windows_are_read_by_av(name: str, codec: str, tolerance: float, tmp_path: Path):
    path = write_with_av(tmp_path / name, codec, noise(34.0, RATE))
    whole = decode(path, RATE)
    assert read_recording(path).seconds == pytest.approx(34.0, abs=0.1)
    starts = [0.0, 2.5, 9.0, 26.0, 31.0]
    together = list(read_windows(path, starts, 5.0, RATE))
    for start, window in zip(starts, together, strict=True):
        assert isinstance(window, np.ndarray)
        expected = whole[round(start * RATE) :][: window.size]
        assert rms(window[: expected.size] - expected) < tolerance
        (alone,) = read_windows(path, [start], 5.0, RATE)
        np.testing.assert_array_equal(alone, window)
    assert len(together[-1]) == pytest.approx(3 * RATE, abs=0.1 * RATE)  # type: ignore[arg-type]


@needs_av
def test_cut_recording_has_readable_windows(tmp_path: Path):
    path = write_with_av(tmp_path / "a.webm", "libopus", noise(40.0, RATE))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    first, last = read_windows(path, [5.0, 35.0], 5.0, RATE)
    assert isinstance(first, np.ndarray)
    assert isinstance(last, AudioDecodeError)


@needs_av
def test_playlist_does_not_open_other_files(tmp_path: Path):
    write_with_av(tmp_path / "secret.ts", "aac", noise(3.0, RATE))
    (tmp_path / "a.m4a").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(AudioDecodeError, match=r"^unreadable: "):
        decode(tmp_path / "a.m4a", RATE)


@needs_av
def test_broken_file_for_av_is_unreadable(tmp_path: Path):
    path = write_with_av(tmp_path / "a.m4a", "aac", noise(3.0, RATE))
    for content in (path.read_bytes()[:300], b"\0\0\0\x20ftypM4A " + bytes(500)):
        path.write_bytes(content)
        with pytest.raises(AudioDecodeError, match=r"^unreadable: "):
            decode(path, RATE)
        with pytest.raises(AudioDecodeError, match=r"^unreadable: "):
            read_recording(path)


@pytest.mark.skipif(HAS_AV, reason="PyAV is installed")
@pytest.mark.parametrize("read", [read_recording, lambda path: load_clip(path, SMALL_FEATURES)])
def test_missing_extra_is_named(read: Any, tmp_path: Path):
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(100))
    with pytest.raises(AudioDecodeError, match=r"^unsupported format '\.m4a'; `pip install 'melray\[av\]'`"):
        read(str(tmp_path / "a.m4a"))


def test_av_is_imported_only_for_its_formats():
    code = "import sys, pipeline.audio.recordings; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@needs_av
@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.webm", "libopus")])
def test_damaged_part_costs_its_windows(name: str, codec: str, tmp_path: Path):
    path = write_with_av(tmp_path / name, codec, noise(60.0, RATE))
    content = path.read_bytes()
    start = int(0.42 * len(content))
    path.write_bytes(content[:start] + bytes(300) + content[start + 300 :])
    starts = [2.0 * number for number in range(30)]
    windows = dict(zip(starts, read_windows(path, starts, 2.0, RATE), strict=True))
    reasons = {
        start: str(window) for start, window in windows.items() if isinstance(window, AudioDecodeError)
    }
    assert 1 <= len(reasons) <= 4
    assert all(22 <= start <= 30 for start in reasons)
    assert all(text.startswith("unreadable from 00:00:2") for text in reasons.values())

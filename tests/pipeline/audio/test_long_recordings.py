"""Recordings of twelve hours: memory, and requests for those in an object store."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from models.classifier import Classifier, ClassifierConfig
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import FeatureConfig
from pipeline.audio.recordings import read_recording, read_windows
from pipeline.io.errors import UserError
from pipeline.io.remote_path import RemotePath
from tests.helpers.audio_formats import encode, noise
from tests.helpers.s3_server import S3Server
from tests.helpers.saved_classifier import COUNTS, NAMES, save_run
from tests.pipeline.audio.test_recordings import encode_long

RATE, HOURS = 48_000, 12
MAX_BYTES = 500e6
SOUND = noise(5.0, RATE)
# Of the sound at 22,050 Hz, which has less than half of its band.
RMS = 0.0665
# Windows at the start, across the whole length and at the end.
STARTS = [0.0, *(3600.0 * hour - 2.5 for hour in range(1, HOURS)), 3600.0 * HOURS - 5]

READ_WINDOWS = """
import json, re, sys
from pathlib import Path
import numpy as np
from pipeline.audio.recordings import read_recording, read_windows

path, starts = sys.argv[1], json.loads(sys.argv[2])
rms = [float(np.sqrt(np.mean(window**2))) for window in read_windows(path, starts, 5.0, 22_050)]
# Unlike ru_maxrss, without the memory of the process that started this one.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(json.dumps([read_recording(path).seconds, rms, 1024 * int(peak)]))
"""


def write_sparse_wave(path: Path, form: str, channels: int = 2) -> None:
    """Write twelve hours of 16-bit zeros with a sound at the end of each; costs no space on the disk."""
    size = 2 * channels * RATE * 3600 * HOURS
    fmt = struct.pack("<HHIIHH", 1, channels, RATE, 2 * channels * RATE, 2 * channels, 16)
    if form == "RF64":
        ds64 = struct.pack("<QQQI", size + 72, size, size // 4, 0)
        header = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", len(ds64)) + ds64
        header += b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data\xff\xff\xff\xff"
    else:
        guid = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
        header = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00" + struct.pack("<Q", size + 104)
        header += b"wave" + guid + b"fmt " + guid + struct.pack("<Q", 24 + len(fmt)) + fmt
        header += b"data" + guid + struct.pack("<Q", 24 + size)
    sound = np.repeat((SOUND * 32767).astype("<i2"), channels).tobytes()
    with open(path, "wb") as file:
        file.write(header)
        for start in STARTS:
            file.seek(len(header) + 2 * channels * round(start * RATE))
            file.write(sound)
        file.truncate(len(header) + size)


def write_long_flac(path: Path, hours: int = HOURS) -> None:
    """Write hours of zeros as FLAC with the same sounds."""
    sounds = {round(start) for start in STARTS[:-1]} | {3600 * hours - 5}
    zeros = np.zeros(RATE * 5, np.int16)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as sound:
        for second in range(0, 3600 * hours, 5):
            is_loud = any(second <= start < second + 5 for start in sounds)
            sound.write((SOUND * 32767).astype(np.int16) if is_loud else zeros)


def read_in_process(path: Path, starts: list[float]) -> tuple[float, list[float], int]:
    """Return length, RMS of windows, and peak memory of a process that reads them."""
    command = [sys.executable, "-c", READ_WINDOWS, str(path), json.dumps(starts)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    seconds, rms, peak = json.loads(result.stdout)
    return seconds, rms, peak


@pytest.mark.parametrize("form", ["RF64", "W64"])
def test_twelve_hours_are_read_in_bounded_memory(form: str, tmp_path: Path):
    write_sparse_wave(tmp_path / "night.wav", form)
    seconds, rms, memory = read_in_process(tmp_path / "night.wav", STARTS)
    assert seconds == 3600 * HOURS
    assert rms == pytest.approx([RMS] * len(STARTS), rel=0.05)
    assert memory < MAX_BYTES


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twelve_hours_of_flac_are_read_in_bounded_memory(tmp_path: Path):
    write_long_flac(tmp_path / "night.flac")
    starts = [5 * (start // 5) for start in STARTS]
    seconds, rms, memory = read_in_process(tmp_path / "night.flac", starts)
    assert seconds == 3600 * HOURS
    assert rms == pytest.approx([RMS] * len(STARTS), rel=0.05)
    assert memory < MAX_BYTES


PREDICT = """
import re, sys
from pathlib import Path
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.distributed.batch_job import run_in_process

run, audio, out = map(Path, sys.argv[1:])
write_predictions(PredictConfig(run=run, audio=audio, out=out, window=5.0, hop=5.0), run_in_process)
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_twelve_hours_are_predicted_in_bounded_memory(tmp_path: Path):
    """In one process, with what the command itself needs: the default network, table of windows, files."""
    (tmp_path / "audio").mkdir()
    write_sparse_wave(tmp_path / "audio" / "night.wav", "RF64")
    features = FeatureConfig()
    network = Classifier(ClassifierConfig(), features.mel.n_mels, len(NAMES))
    metadata = {"features": features, "class_names": NAMES, "training": {"class_counts": COUNTS}}
    run = save_run(tmp_path / "run", network, **metadata)
    command = [sys.executable, "-c", PREDICT, run, tmp_path / "audio", tmp_path / "out"]
    result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=1500)
    table = pq.read_table(tmp_path / "out" / "windows.parquet")
    assert table.num_rows == 3600 * HOURS // 5
    memory = 1024 * int(result.stdout.splitlines()[-1])
    print(f"peak memory: {memory / 1e6:.0f} MB")
    assert memory < MAX_BYTES


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of all ranges that are read from object stores, one after the other."""
    sizes: list[int] = []
    read_range = RemotePath.read_range

    def count(path: RemotePath, start: int = 0, length: int | None = None) -> bytes:
        data = read_range(path, start, length)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(RemotePath, "read_range", count)
    return sizes


def test_few_ranges_of_long_object_are_read(server: S3Server, tmp_path: Path, requested: list[int]):
    write_sparse_wave(tmp_path / "night.wav", "RF64")
    uri = str(server.bucket("nights", tmp_path) / "night.wav")
    server.reset()
    assert read_recording(uri).seconds == 3600 * HOURS
    assert server.requests().total() <= 4
    server.reset()
    requested.clear()
    starts = [3600.0 * 5 - 2.5 + 2.5 * number for number in range(-4, 5)]
    windows = list(read_windows(uri, starts, 5.0, 22_050))
    for window, expected in zip(
        windows, read_windows(tmp_path / "night.wav", starts, 5.0, 22_050), strict=True
    ):
        np.testing.assert_array_equal(window, expected)
    # 40 s are 7.7 MB; in addition the header, and samples of the channels.
    assert sum(requested) < 20e6
    assert server.requests().total() < 40


def test_few_ranges_of_flac_object_are_read(server: S3Server, tmp_path: Path, requested: list[int]):
    (tmp_path / "a.flac").write_bytes(encode_long(noise(600.0, 44_100), "FLAC", "PCM_16", 44_100))
    uri = str(server.bucket("flac", tmp_path) / "a.flac")
    size = (tmp_path / "a.flac").stat().st_size
    server.reset()
    windows = list(read_windows(uri, [400.0, 402.5, 405.0], 5.0, 22_050))
    for window, expected in zip(
        windows, read_windows(tmp_path / "a.flac", [400.0, 402.5, 405.0], 5.0, 22_050), strict=True
    ):
        np.testing.assert_array_equal(window, expected)
    assert sum(requested) < size / 4
    assert server.requests().total() < 40


def test_small_object_is_read_by_one_request(server: S3Server, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(encode(noise(20.0)))
    uri = str(server.bucket("small", tmp_path) / "a.wav")
    server.reset()
    assert len(list(read_windows(uri, [0.0, 10.0], 5.0, 8000))) == 2
    assert server.requests() == {"GET": 1}


def test_store_that_fails_later_is_no_damage(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_sparse_wave(tmp_path / "night.wav", "RF64")
    uri = str(server.bucket("failing", tmp_path) / "night.wav")
    windows = read_windows(uri, [0.0, 30_000.0], 5.0, 22_050)
    assert isinstance(next(windows), np.ndarray)
    monkeypatch.setattr(RemotePath, "read_range", fail)
    with pytest.raises(UserError, match=r"^connection lost while reading s3://failing/night\.wav"):
        next(windows)


def fail(path: RemotePath, start: int = 0, length: int | None = None) -> bytes:
    raise OSError("connection lost")


def test_missing_object_is_an_error_of_the_recording(server: S3Server, tmp_path: Path):
    uri = str(server.bucket("nothing", tmp_path) / "a.wav")
    with pytest.raises(AudioDecodeError, match=r"^no such file$"):
        read_recording(uri)

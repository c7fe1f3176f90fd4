"""Windows of recordings that are damaged, cut off, or in an object store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.classifier.predict import PredictConfig, predict
from pipeline.distributed.batch_job import run_in_process
from tests.helpers.s3_server import s3_server
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import RATE
from tests.pipeline.classifier.windows.test_predict_windows import CLASSES, chirp, config, plain_loop


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "run")


def windows(run: Path) -> pd.DataFrame:
    return pd.read_parquet(run.parent / "out" / "windows.parquet").set_index("id")


def test_cut_off_recording_has_windows_until_there(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "rec.wav"
    soundfile.write(path, chirp(10, 0), RATE)
    expected = plain_loop(run, path)
    path.write_bytes(path.read_bytes()[: 44 + 2 * RATE * 6])
    predict(config(run, path, row_id="{stem}_{end}"), run_in_process)
    table = windows(run)
    assert table["end"].max() == 6.0
    assert np.allclose(table[CLASSES], expected[: len(table)], atol=1e-6)
    reasons = pd.read_csv(run.parent / "out" / "rejected.csv")["reason"]
    assert all("the recording ends at 00:00:06" in reason for reason in reasons) and len(reasons) == 2
    assert len(pd.read_csv(run.parent / "out" / "submission.csv")) == 19


def test_damaged_flac_has_windows_on_both_sides(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "rec.flac"
    soundfile.write(path, chirp(10, 1), RATE)
    expected = plain_loop(run, path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    predict(config(run, path), run_in_process)
    table = windows(run)
    readable = (table["start"] * 2).astype(int)
    assert readable.min() == 0 and readable.max() == 18 and 8 < len(readable) < 19
    assert np.allclose(table[CLASSES], expected[readable], atol=1e-6)
    assert pd.read_csv(run.parent / "out" / "rejected.csv")["clip_id"].unique().tolist() == ["rec.flac"]


def test_windows_of_objects_equal_those_of_files(run: Path, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    (audio / "a").mkdir(parents=True)
    soundfile.write(audio / "a" / "1.flac", chirp(6, 2), RATE)
    soundfile.write(audio / "2.wav", chirp(3, 3), RATE)
    predict(config(run, audio), run_in_process)
    expected = windows(run)
    with s3_server() as server:
        bucket = server.bucket("audio", audio)
        out = server.bucket("results") / "out"
        settings = PredictConfig(run=run, audio=bucket, out=out, window=1.0, hop=0.5)
        predict(settings, run_in_process)
        written = {name: (out / name).read_bytes() for name in ("windows.parquet", "events.csv")}
        assert {path.name for path in (out / "raven").iterdir()} <= {"2.selections.txt", "a"}
    (tmp_path / "windows.parquet").write_bytes(written["windows.parquet"])
    assert pd.read_parquet(tmp_path / "windows.parquet").set_index("id").equals(expected)
    assert written["events.csv"] == (run.parent / "out" / "events.csv").read_bytes()

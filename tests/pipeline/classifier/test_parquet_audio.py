"""Prediction, reports and pages of audio inside Parquet files: as of the same audio in files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.classifier.clip_audio import audio_facts, row_audio
from pipeline.classifier.command_configs import EvaluateConfig, ShowConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.show import show
from pipeline.classifier.sound_classifier import SoundClassifier
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.data.dataset import open_dataset
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from tests.helpers.html_page import Page, parse_checked
from tests.helpers.parquet_audio import write_parquet
from tests.helpers.s3_server import S3Server
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import RATE, extract_config, tone, train_config

NUM_CLIPS = 11


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "run")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write clips of 2.5 s as `files/<number>.wav`, and to two Parquet files without labels."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(NUM_CLIPS):
        soundfile.write(folder / f"{number}.wav", tone(200 + 90 * number, 2.5), RATE)
    rows = [
        {"audio": {"bytes": path.read_bytes(), "path": path.name}} for path in sorted(folder.glob("*.wav"))
    ]
    write_parquet(tmp_path / "data/test-00000-of-00002.parquet", rows[:7])
    write_parquet(tmp_path / "data/test-00001-of-00002.parquet", rows[7:])
    return tmp_path / "data"


def predicted(run: Path, audio: Any, **settings: Any) -> pd.DataFrame:
    """Return the probabilities by the name of the file and the start of the window."""
    table = predict(PredictConfig(run=run, audio=audio, out=run.parent / "out", **settings), run_in_process)
    shutil.rmtree(run.parent / "out")
    table.index = table["id"].str.rpartition("/")[2].tolist()
    return table.filter(like="p:").sort_index()


def test_probabilities_are_those_of_files(run: Path, data: Path) -> None:
    expected = predicted(run, data.parent / "files")
    shards = sorted(data.glob("*.parquet"))
    for audio in (data, tuple(shards)):
        pd.testing.assert_frame_equal(predicted(run, audio), expected, atol=1e-6)
    assert len(predicted(run, shards[0])) == 7


def test_probabilities_of_windows_are_those_of_files(run: Path, data: Path) -> None:
    tables = []
    for audio in (data, data.parent / "files"):
        config = PredictConfig(run=run, audio=audio, out=run.parent / "out", window=1.0, hop=0.5)
        predict(config, run_in_process)
        tables.append(pd.read_parquet(config.out / "windows.parquet"))
        tables[-1]["id"] = tables[-1]["id"].str.rpartition("/")[2]
        shutil.rmtree(config.out)
    assert len(tables[0]) == 4 * NUM_CLIPS
    pd.testing.assert_frame_equal(
        *(table.sort_values(["id", "start"], ignore_index=True) for table in tables)
    )


def test_sample_submission_has_names_of_audio(run: Path, data: Path) -> None:
    sample = data.parent / "sample.csv"
    sample.write_text("clip,label\n3.wav,?\n10.wav,?\n", encoding="utf-8")
    out = run.parent / "out"
    table = predict(
        PredictConfig(run=run, audio=data, out=out, sample_submission=sample), run_in_process
    ).set_index("id")
    written = pd.read_csv(out / "submission.csv", dtype=str)
    assert written["clip"].tolist() == ["3.wav", "10.wav"]
    ids = [
        next(clip_id for clip_id in table.index if clip_id.endswith(f"/{name}")) for name in written["clip"]
    ]
    assert written["label"].tolist() == table.loc[ids, "label"].tolist()


def test_classifier_for_programs_reads_rows(run: Path, data: Path) -> None:
    classifier = SoundClassifier(run)
    tables = [classifier.classify_many(folder) for folder in (data, data.parent / "files")]
    for table in tables:
        table.index = table["file"].str.rpartition("/")[2].tolist()
    values = [table.sort_index().filter(like="p:") for table in tables]
    assert len(values[0]) == NUM_CLIPS
    pd.testing.assert_frame_equal(*values, atol=1e-6)


def test_page_shows_a_row(run: Path, data: Path, tmp_path: Path) -> None:
    row = data / "test-00000-of-00002.parquet#000001/1.wav"
    show(ShowConfig(recording=row, run=run, out=tmp_path / "show.html"))
    page = parse_checked((tmp_path / "show.html").read_text(encoding="utf-8"))
    assert page.find_all("audio")
    show(ShowConfig(recording=row, run=run, out=tmp_path / "show.html", max_audio_mb=0))
    text = Page((tmp_path / "show.html").read_text(encoding="utf-8")).words
    assert "No audio: the recording is inside a Parquet file." in text


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """Write 20 clips of two classes to a Parquet file."""
    for number in range(20):
        soundfile.write(tmp_path / f"{number}.wav", tone(300 * (1 + number % 2) + number, seed=number), RATE)
    rows = [
        {
            "audio": {
                "bytes": (tmp_path / f"{number}.wav").read_bytes(),
                "path": f"{number % 5 + 1}-{number}-.wav",
            },
            "label": number % 2,
        }
        for number in range(20)
    ]
    write_parquet(tmp_path / "labeled/train.parquet", rows)
    return tmp_path / "labeled"


def test_report_plays_rows(labeled: Path, tmp_path: Path) -> None:
    extract(extract_config(labeled, tmp_path / "shards"), run_in_process)
    config = train_config(tmp_path / "shards", tmp_path / "trained", epochs=1)
    begin_run(config)
    train_in_process(config)
    evaluate(EvaluateConfig(run=config.run))
    page = parse_checked((config.run / "report.html").read_text(encoding="utf-8"))
    num_clips = len(page.find_all("figure")) - len(page.charts)
    assert len(page.find_all("audio")) == num_clips >= 2


def test_rows_in_a_bucket_are_not_played(labeled: Path, tmp_path: Path, server: S3Server) -> None:
    for data, is_played in ((labeled, True), (server.bucket("labeled", labeled), False)):
        extract(extract_config(data, tmp_path / "shards", overwrite=True), run_in_process)
        dataset = open_dataset(tmp_path / "shards")
        assert (row_audio(dataset, 0) is not None) == is_played
        fact = {"audio": "not played: it is inside Parquet files in an object store"}
        assert audio_facts(dataset) == ({} if is_played else fact)
        assert np.isfinite(dataset.mels[0]).all()

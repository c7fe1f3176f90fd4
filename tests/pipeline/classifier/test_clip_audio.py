"""Audio of a dataset's rows: what the spectrogram shows, or none if the file is gone or another one."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.audio.features import load_clip, spectrogram
from pipeline.classifier.clip_audio import row_audio
from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.data.dataset import ShardDataset
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from tests.helpers.html_page import parse_checked
from tests.helpers.sounds import RATE, SMALL_FEATURES, extract_config, tone, train_config, write_tones
from tests.pipeline.report.test_clips import decode_audio


def make_dataset(path: Path, mel: np.ndarray, **columns: Any) -> ShardDataset:
    table = pd.DataFrame({"clip_id": ["a"], "path": [str(path)], **columns})
    return cast(Any, SimpleNamespace(table=table, mels=mel[None], features=SMALL_FEATURES))


def assert_same_audio(uri: str | None, samples: np.ndarray) -> None:
    assert uri is not None
    decoded, rate, _ = decode_audio(uri)
    assert (rate, decoded.size) == (RATE, samples.size)
    difference = spectrogram(decoded, SMALL_FEATURES) - spectrogram(samples, SMALL_FEATURES)
    assert np.abs(difference.astype(np.float32)).mean() < 3


def test_clip_has_its_audio(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.wav", tone(500)
    soundfile.write(path, samples, RATE)
    mel = spectrogram(load_clip(str(path), SMALL_FEATURES), SMALL_FEATURES)
    assert_same_audio(row_audio(make_dataset(path, mel), 0), samples)


def test_window_has_its_part_of_the_recording(tmp_path: Path) -> None:
    path, samples = tmp_path / "a.flac", np.concatenate([tone(300), tone(500), tone(900)])
    soundfile.write(path, samples, RATE, subtype="PCM_24")
    mel = spectrogram(samples[RATE : 2 * RATE], SMALL_FEATURES)
    assert_same_audio(row_audio(make_dataset(path, mel, start=[1.0]), 0), samples[RATE : 2 * RATE])
    assert row_audio(make_dataset(path, mel, start=[0.0]), 0) is None


@pytest.mark.parametrize("content", [None, b"", b"not audio", "other"])
def test_missing_or_changed_file_has_no_audio(content: bytes | str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    if content == "other":
        soundfile.write(path, tone(900), RATE)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    assert row_audio(make_dataset(path, spectrogram(tone(500), SMALL_FEATURES)), 0) is None


def test_report_plays_clips_whose_files_remain(tmp_path: Path) -> None:
    write_tones(tmp_path / "data")
    extract(extract_config(tmp_path / "data", tmp_path / "shards"), run_in_process)
    config = train_config(tmp_path / "shards", tmp_path / "run", epochs=1)
    begin_run(config)
    train_in_process(config)
    evaluate(EvaluateConfig(run=config.run))
    page = parse_checked((config.run / "report.html").read_text(encoding="utf-8"))
    num_clips = len(page.find_all("figure")) - len(page.charts)
    assert len(page.find_all("audio")) == num_clips >= 3
    shutil.rmtree(tmp_path / "data")
    evaluate(EvaluateConfig(run=config.run))
    page = parse_checked((config.run / "report.html").read_text(encoding="utf-8"))
    assert not page.find_all("audio")

"""A dataset is the same if its rows are, wherever and whenever its audio and its shards were written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.data.dataset import open_dataset
from pipeline.data.identify import identify
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from tests.helpers.classifier_training import interrupted_at, train_run
from tests.helpers.runs import load_weights
from tests.helpers.sounds import RATE, extract_config, tone, train_config, write_shards


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MELRAY_CACHE", str(tmp_path / "cache"))


def download_again(folder: Path) -> Path:
    """Move the audio to another folder, change its modification times, and replace the shards."""
    data = folder / "downloaded again"
    (folder / "data").rename(data)
    for path in data.rglob("*.wav"):
        os.utime(path, (1, 1))
    shutil.rmtree(folder / "shards")
    extract(extract_config(data, folder / "shards"), run_in_process)
    return folder / "shards"


def test_audio_that_was_downloaded_again_is_the_same_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = identify(write_shards(tmp_path))
    expected = first.rows_digest
    monkeypatch.setattr("pipeline.extract.MIN_CLIPS_PER_UNIT", 7)
    monkeypatch.setattr("pipeline.extract.MAX_CLIPS_PER_UNIT", 7)
    shards = download_again(tmp_path)
    again = identify(shards)
    assert again.digest != first.digest and again.rows_digest == expected
    cached = open_dataset(shards)
    assert identify(shards).rows_digest == identify(shards, cached).rows_digest == expected


def replace_a_clip(data: Path) -> None:
    import soundfile

    soundfile.write(data / "train/tone 0/1-0000-0.wav", tone(777.0), RATE)


def rename_a_clip(data: Path) -> None:
    path = data / "train/tone 0/1-0000-0.wav"
    path.rename(path.with_name("1-0000-00.wav"))


def rename_a_class(data: Path) -> None:
    (data / "train/tone 0").rename(data / "train/tone 7")


def delete_a_clip(data: Path) -> None:
    (data / "train/tone 2/5-2004-9.wav").unlink()


@pytest.mark.parametrize("change", [replace_a_clip, rename_a_clip, rename_a_class, delete_a_clip])
def test_other_clips_are_another_dataset(tmp_path: Path, change: Callable[[Path], object]) -> None:
    expected = identify(write_shards(tmp_path)).rows_digest
    change(tmp_path / "data")
    extract(extract_config(tmp_path / "data", tmp_path / "changed"), run_in_process)
    assert identify(tmp_path / "changed").rows_digest != expected


@pytest.mark.parametrize("settings", [{"copies": 2}, {"seed": 1}, {"fold_pattern": None}])
def test_other_settings_are_another_dataset(tmp_path: Path, settings: dict[str, object]) -> None:
    expected = identify(write_shards(tmp_path)).rows_digest
    extract(extract_config(tmp_path / "data", tmp_path / "changed", **settings), run_in_process)
    assert identify(tmp_path / "changed").rows_digest != expected


def test_training_continues_on_audio_that_was_downloaded_again(tmp_path: Path) -> None:
    shards = write_shards(tmp_path)
    undisturbed = train_config(shards, tmp_path / "undisturbed", epochs=2)
    train_run(undisturbed)
    config = train_config(shards, tmp_path / "run", epochs=2)
    with interrupted_at(5):
        train_run(config)
    download_again(tmp_path)
    train_run(config)
    expected = load_weights(undisturbed.run)
    assert all(value.equal(expected[name]) for name, value in load_weights(config.run).items())
    # Later commands find the clips too: by the path in the run, which was not resumed, or by --shards.
    evaluation = evaluate(EvaluateConfig(run=undisturbed.run))
    assert evaluation == evaluate(EvaluateConfig(run=undisturbed.run, shards=shards))
    assert evaluation["accuracy"] == evaluate(EvaluateConfig(run=config.run))["accuracy"]
    train_run(undisturbed)  # complete


def test_training_on_other_clips_is_refused(tmp_path: Path) -> None:
    config = train_config(write_shards(tmp_path), tmp_path / "run", epochs=1)
    train_run(config)
    replace_a_clip(tmp_path / "data")
    extract(extract_config(tmp_path / "data", config.shards), run_in_process)
    with pytest.raises(UserError, match=r"a run with other clips than --shards .*/shards has now"):
        train_run(config)
    with pytest.raises(UserError, match="have changed since training"):
        evaluate(EvaluateConfig(run=config.run))

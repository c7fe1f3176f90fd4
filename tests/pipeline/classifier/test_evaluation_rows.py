"""Clips to evaluate on: by default never those that the run was trained on, wherever they lie now."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from pipeline.classifier.command_configs import EvaluateConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import evaluate
from pipeline.classifier.evaluation_rows import select_rows
from pipeline.classifier.train import begin_run, train_in_process
from pipeline.data.split_record import SPLIT_NAME
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from pipeline.training.model_file import SavedClassifier, load_classifier
from pipeline.training.run_folder import RunFolder
from tests.helpers.sounds import extract_config, train_config, write_tones


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with audio in `data`, `shards` and a trained `run`."""
    folder = tmp_path_factory.mktemp("trained")
    write_tones(folder / "data")
    extract(extract_config(folder / "data", folder / "shards"), run_in_process)
    train(train_config(folder / "shards", folder / "run", epochs=1))
    return folder


def train(config: TrainClassifierConfig) -> None:
    begin_run(config)
    train_in_process(config)


@pytest.fixture(scope="module")
def saved(folder: Path) -> SavedClassifier:
    return load_classifier(folder / "run")


def selected_ids(config: EvaluateConfig, saved: SavedClassifier) -> list[str]:
    dataset, rows, _ = select_rows(config, saved)
    return sorted(dataset.table["clip_id"].iloc[rows])


def test_moved_shards_are_evaluated_on_their_split(
    folder: Path, saved: SavedClassifier, tmp_path: Path
) -> None:
    own = selected_ids(EvaluateConfig(run=folder / "run"), saved)
    shutil.copytree(folder / "shards", tmp_path / "moved")
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    config = RunFolder(run).read_json("config.json")
    RunFolder(run).write_json("config.json", config | {"shards": str(tmp_path / "gone")})
    assert selected_ids(EvaluateConfig(run=run, shards=tmp_path / "moved"), saved) == own
    assert len(own) == 6
    everything = EvaluateConfig(run=run, shards=tmp_path / "moved", split="all")
    assert len(selected_ids(everything, saved)) == 30
    assert select_rows(everything, saved)[2] == "all clips, those trained on included"
    with pytest.raises(UserError, match=r"its shards in .*/gone are missing: give the clips .* by --shards"):
        select_rows(EvaluateConfig(run=run), saved)


def test_clips_trained_on_are_left_out(
    folder: Path, saved: SavedClassifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = selected_ids(EvaluateConfig(run=folder / "run"), saved)
    # Other shards of the same audio: without augmented copies, and two clips under other names.
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    clips = sorted((data / "train" / "tone 1").iterdir())
    clips[0].rename(clips[0].with_name("1-9990-0.wav"))
    write_new_tone(data / "train" / "tone 1" / "1-999-0.wav")
    extract(extract_config(data, tmp_path / "shards", copies=0), run_in_process)
    config = EvaluateConfig(run=folder / "run", shards=tmp_path / "shards")
    with caplog.at_level(logging.WARNING, logger="melray"):
        selected = selected_ids(config, saved)
    assert "tone 1/1-999-0.wav" in selected
    renamed = "tone 1/1-9990-0.wav" in selected
    assert renamed == (f"tone 1/{clips[0].name}" in own)
    assert len(selected) == len(own) + 1
    assert "the run was trained on 24 of 31 clips" in caplog.text and "they are left out" in caplog.text
    assert "6 of 7 clips, such as 'tone " in caplog.text and "are validation clips of the run" in caplog.text
    assert select_rows(config, saved)[2].endswith("without clips trained on, 6 validation clips included")
    everything = EvaluateConfig(run=folder / "run", shards=tmp_path / "shards", split="all")
    assert len(selected_ids(everything, saved)) == 31
    with pytest.raises(UserError, match=r"--split held-out: only the run's own data has it"):
        select_rows(EvaluateConfig(run=folder / "run", shards=tmp_path / "shards", split="held-out"), saved)


def write_new_tone(path: Path) -> None:
    import soundfile

    from tests.helpers.sounds import RATE, tone

    soundfile.write(path, tone(777.0, seed=7777), RATE)


def test_only_clips_trained_on_is_an_error(folder: Path, tmp_path: Path) -> None:
    train(train_config(folder / "shards", tmp_path / "run", epochs=1, val_fraction=0.0))
    extract(extract_config(folder / "data", tmp_path / "shards", copies=0), run_in_process)
    config = EvaluateConfig(run=tmp_path / "run", shards=tmp_path / "shards")
    with pytest.raises(UserError, match=r"trained on 30 of 30 clips.*: give other clips, or --split all"):
        evaluate(config)


def test_run_without_record_cannot_check(
    folder: Path, saved: SavedClassifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / SPLIT_NAME).unlink()
    extract(extract_config(folder / "data", tmp_path / "shards", copies=0), run_in_process)
    with caplog.at_level(logging.WARNING, logger="melray"):
        select_rows(EvaluateConfig(run=tmp_path / "run", shards=tmp_path / "shards"), saved)
    assert "cannot check whether it was trained on clips of --shards" in caplog.text


def test_evaluation_names_classes_without_clips(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for name in ("tone 0", "tone 2"):
        (data / name).mkdir(parents=True)
        write_new_tone(data / name / "1-999-0.wav")
        (data / name / "1-999-0.wav").write_bytes(
            (folder / "data/train" / name / f"1-{name[-1]}000-0.wav").read_bytes()[:-1000]
        )
    extract(extract_config(data, tmp_path / "shards", copies=0), run_in_process)
    config = EvaluateConfig(run=folder / "run", shards=tmp_path / "shards", out=tmp_path / "out")
    metrics = evaluate(config)
    assert metrics["classes_without_clips"] == ["tone 1"]
    assert "no clips of 'tone 1': macro-F1 is the mean of the other classes" in capsys.readouterr().out
    assert "2 of 3 classes; the others have no clips" in (tmp_path / "out/report.html").read_text()


def test_unknown_class_is_named_with_known_ones(folder: Path, tmp_path: Path) -> None:
    write_tones(tmp_path / "data", classes=4)
    extract(extract_config(tmp_path / "data", tmp_path / "shards", copies=0), run_in_process)
    config = EvaluateConfig(run=folder / "run", shards=tmp_path / "shards", split="all")
    with pytest.raises(
        UserError, match="the model does not know 'tone 3', only 'tone 0', 'tone 1', 'tone 2'"
    ):
        evaluate(config)

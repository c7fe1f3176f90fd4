"""Prediction in a single process: every file has a row, and what cannot work ends before or with one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from pipeline.classifier import predict as prediction
from pipeline.classifier.predict import PredictConfig, plan_job, planned_unit_size, predict, read_audio
from pipeline.distributed.batch_job import UnitResult, run_in_process
from pipeline.distributed.quarantine import CRASH_REASON
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier, save_model
from tests.helpers.saved_classifier import NAMES, save_classifier
from tests.helpers.sounds import RATE, tone


def flip_label(data: bytes) -> bytes:
    """Flip a bit of the first class name in the data pages of a table."""
    position = min(position for name in NAMES if (position := data.find(name.encode())) > 0)
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "run")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write three clips, of which one is in a folder."""
    folder = tmp_path / "test"
    (folder / "a").mkdir(parents=True)
    for number, name in enumerate(("1.wav", "2.wav", "a/3.wav")):
        soundfile.write(folder / name, tone(400 * (number + 1)), RATE)
    return folder


def config(run: Path, audio: Any, **settings: Any) -> PredictConfig:
    return PredictConfig(run=run, audio=audio, out=run.parent / "out", **settings)


def read_submission(run: Path) -> pd.DataFrame:
    return pd.read_csv(run.parent / "out" / "submission.csv", dtype=str)


def write_sample(folder: Path, text: str) -> Path:
    path = folder / "sample.csv"
    path.write_text(text)
    return path


def run_never(*_: Any) -> Any:
    raise AssertionError("units were run")


def test_every_file_has_a_row_with_reason(run: Path, audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    (audio / "4.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0")
    (audio / "5").write_bytes(b"neither audio nor text")
    (audio / "6.wav").write_bytes(b"")
    (audio / "7").write_bytes((audio / "1.wav").read_bytes())
    with caplog.at_level(logging.WARNING, logger="melray"):
        table = predict(config(run, audio), run_in_process).set_index("id")
    assert table.index.tolist() == ["1.wav", "2.wav", "4.m4a", "5", "6.wav", "7", "a/3.wav"]
    assert read_submission(run)["id"].tolist() == table.index.tolist()
    assert "unsupported format '.m4a'" in table.loc["4.m4a", "reason"]
    assert "unsupported format" in table.loc["5", "reason"] and "empty" in table.loc["6.wav", "reason"]
    assert table.loc["7", "reason"] == "" and np.allclose(
        table.loc["7", ["p:noise", "p:whale"]].astype(float),
        table.loc["1.wav", ["p:noise", "p:whale"]].astype(float),
    )
    unreadable = table.loc[["4.m4a", "5", "6.wav"]]
    assert (unreadable["label"] == "noise").all() and np.allclose(unreadable["p:noise"], 0.75)
    assert np.allclose(table.filter(like="p:").sum(axis=1), 1, atol=1e-6)
    rejected = pd.read_csv(run.parent / "out" / "rejected.csv")
    assert rejected["clip_id"].astype(str).tolist() == ["4.m4a", "5", "6.wav"]
    assert any("3 files could not be read" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n1.wav,?\nmissing.wav,?\n", "id 'missing.wav': no match"),
        ("id,label\n1,0\n2,0\n", "add --submission-values"),
        ("id,whale,dolphin\n1,0,0\n", "'dolphin': not a model class; no column for 'noise'"),
    ],
)
def test_unusable_sample_fails_before_prediction(text: str, message: str, run: Path, audio: Path) -> None:
    sample = write_sample(run.parent, text)
    with pytest.raises(UserError, match=message):
        predict(config(run, audio, sample_submission=sample), run_never)
    assert not (run.parent / "out").exists()


def test_sample_with_probability_column_is_filled(
    run: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = write_sample(run.parent, "clip,probability\n3.wav,0\n1.wav,0\n")
    with caplog.at_level(logging.INFO, logger="melray"):
        table = predict(config(run, audio, sample_submission=sample), run_in_process).set_index("id")
    written = read_submission(run)
    assert written.columns.tolist() == ["clip", "probability"]
    expected = table.loc[["a/3.wav", "1.wav"], "p:whale"].to_numpy()
    assert np.allclose(written["probability"].astype(float), expected, atol=1e-6)
    assert "column 'probability': probability of class 'whale'" in caplog.messages
    assert any(message.startswith("1 of 3 audio files have no row in") for message in caplog.messages)


def test_audio_is_a_file_several_files_or_a_list(run: Path, audio: Path) -> None:
    expected = predict(config(run, audio), run_in_process).set_index("id")
    single = predict(config(run, audio / "2.wav"), run_in_process)
    assert single["id"].tolist() == ["2.wav"]
    several = predict(config(run, (audio / "a" / "3.wav", audio / "1.wav")), run_in_process)
    assert several["id"].tolist() == ["1.wav", "3.wav"]
    (audio / "list.txt").write_text("a/3.wav\n2.wav\n")
    listed = predict(config(run, audio / "list.txt"), run_in_process)
    assert listed["id"].tolist() == ["2.wav", "a/3.wav"]
    for table in (single, several, listed):
        for clip_id, probability in table[["id", "p:whale"]].itertuples(index=False):
            same = expected.loc["a/3.wav" if clip_id == "3.wav" else clip_id, "p:whale"]
            assert np.isclose(probability, same, atol=1e-6)


def test_same_id_in_two_audio_arguments_raises(audio: Path) -> None:
    soundfile.write(audio / "a" / "1.wav", tone(300), RATE)
    with pytest.raises(UserError, match=r"1 id in several arguments, e.g. '1.wav'; pass the folder"):
        read_audio((audio / "1.wav", audio / "a" / "1.wav"))


def test_prediction_of_other_files_replaces_earlier_one(run: Path, audio: Path) -> None:
    predict(config(run, audio), run_in_process)
    (audio / "1.wav").unlink()
    predict(config(run, audio, windows=3), run_in_process)
    assert read_submission(run)["id"].tolist() == ["2.wav", "a/3.wav"]
    assert not (run.parent / "out" / ".parts").exists()


def test_folder_of_recordings_is_no_output_folder(run: Path, audio: Path) -> None:
    """The next prediction would leave it out, and its recordings would have no row."""
    with pytest.raises(UserError, match="is a folder of recordings, which would be left out from then on"):
        predict(PredictConfig(run=run, audio=audio, out=audio / "a"), run_never)
    predict(PredictConfig(run=run, audio=audio, out=audio / "predictions"), run_in_process)


def test_output_folder_of_another_command_is_kept(run: Path, audio: Path) -> None:
    with pytest.raises(UserError, match="contains a training run"):
        predict(PredictConfig(run=run, audio=audio, out=run), run_never)


def test_network_with_values_that_are_not_finite_raises(tmp_path: Path, audio: Path) -> None:
    run = save_classifier(tmp_path / "broken", scale=float("nan"))
    with pytest.raises(UserError, match=r"not finite for '1.wav': evaluate the run"):
        predict(config(run, audio), run_in_process)


@pytest.mark.parametrize("counts", [{}, {"noise": 0}])
def test_unknown_class_frequencies_are_uniform(counts: dict[str, int], tmp_path: Path) -> None:
    run = save_classifier(tmp_path / "other", class_counts=counts)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    table = predict(config(run, tmp_path / "broken.wav"), run_in_process)
    assert table[["p:noise", "p:whale"]].to_numpy().tolist() == [[0.5, 0.5]]


def test_single_class_has_probability_one(tmp_path: Path, audio: Path) -> None:
    run = save_classifier(tmp_path / "single", names=("whale",))
    sample = write_sample(tmp_path, "id,prob\n1,0.0\n")
    predict(config(run, audio, sample_submission=sample), run_in_process)
    assert read_submission(run)["prob"].astype(float).tolist() == [1.0]


@pytest.mark.parametrize("settings", [{"windows": 1000}, {"tta_shifts": 64}, {"windows": 3, "tta_shifts": 2}])
@pytest.mark.parametrize("seconds", [0.001, 7.3])
def test_very_short_and_long_files_have_probabilities(
    settings: dict[str, int], seconds: float, run: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "clip.wav", tone(500, seconds), RATE)
    table = predict(config(run, tmp_path / "clip.wav", **settings), run_in_process)
    assert table["reason"].tolist() == [""]
    assert np.allclose(table.filter(like="p:").sum(axis=1), 1, atol=1e-5)


def test_crash_reason_is_listed(run: Path, audio: Path) -> None:
    settings = config(run, audio)
    job = plan_job(settings, read_audio(settings.audio).clips)
    record = {"crashes": {"2.wav": 3}, "clip": ""}
    (job.folder / ".attempts").mkdir()
    (job.folder / ".attempts" / f"{job.units[0].name}.json").write_text(json.dumps(record))
    table = predict(settings, run_in_process).set_index("id")
    assert table.loc["2.wav", "reason"] == CRASH_REASON


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-9], flip_label])
def test_damaged_part_of_interrupted_job_is_named(
    damage: Callable[[bytes], bytes], run: Path, audio: Path
) -> None:
    config = PredictConfig(run=run, audio=(audio,), out=audio.parent / "out")

    def interrupted(units: Any, stages: Any) -> Iterator[UnitResult]:
        yield from run_in_process(units, stages)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(config, interrupted)
    (part,) = (config.out / ".parts").glob("part-*.parquet")
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(UserError, match=rf"{part.name} is damaged .*: delete it and run the command again"):
        predict(config, run_in_process)
    part.unlink()
    assert len(predict(config, run_in_process))


def test_model_that_is_replaced_by_its_training_is_refused(tmp_path: Path, audio: Path) -> None:
    run = save_classifier(tmp_path / "run")
    settings = config(run, audio)

    def replaced(units: Any, stages: Any) -> Iterator[UnitResult]:
        saved = load_classifier(run)
        save_model(run, saved.model, saved.metadata.model_copy(update={"temperature": 2.0}))
        yield from run_in_process(units, stages)

    with pytest.raises(UserError, match=r"run: its training has replaced the model .*run the command again"):
        predict(settings, replaced)
    assert len(predict(settings, run_in_process))


@pytest.mark.parametrize(
    ("clips", "gpus", "expected"),
    [(4000, 0, 32), (10**6, 0, 256), (100, 1, 32), (6400, 1, 100), (10**6, 0.5, 256)],
)
def test_units_are_larger_for_gpus_and_many_clips(
    clips: int, gpus: float, expected: int, tmp_path: Path
) -> None:
    table = pd.DataFrame({"size": np.full(clips, 1000)})
    assert planned_unit_size(tmp_path / ".parts", table, gpus) == expected


def test_recorded_unit_size_holds_windows(run: Path, audio: Path) -> None:
    clips = read_audio((audio,)).clips
    many = pd.DataFrame({"size": np.full(10**6, 1000)})
    assert planned_unit_size(run.parent / "out" / ".parts", many, 1) == 256
    assert [unit.clips for unit in plan_job(config(run, audio), clips).units] == [3]
    units = plan_job(config(run, audio, windows=1000), clips, 1).units
    assert [unit.clips for unit in units] == [1, 1, 1]


@pytest.mark.parametrize(("first", "second"), [(1, 0), (0, 1)], ids=["GPUs, then CPUs", "CPUs, then GPUs"])
def test_job_resumes_on_other_devices(
    first: float, second: float, run: Path, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction, "CLIPS_PER_UNIT", 1)
    monkeypatch.setattr(prediction, "MIN_GPU_UNITS", 1)
    settings, clips = config(run, audio), read_audio((audio,)).clips
    size = 3 if first else 1
    units = plan_job(settings, clips, first).units
    assert [unit.clips for unit in units] == [size] * (3 // size)
    assert [unit.name for unit in plan_job(settings, clips, second).units] == [unit.name for unit in units]
    # A job on other devices is planned again once this one is complete.
    predict(settings, run_in_process)
    assert [unit.clips for unit in plan_job(settings, clips, second).units] != [size] * (3 // size)


def test_sample_of_windows_needs_the_window(run: Path, audio: Path) -> None:
    sample = write_sample(audio.parent, "file,start_time,end_time,noise,whale\n1.wav,0,1,0,0\n")
    with pytest.raises(
        UserError,
        match=r"its rows are windows, by the columns 'start_time', 'end_time'; add --window 1$",
    ):
        predict(config(run, audio, sample_submission=sample), run_never)


def test_recordings_cropped_to_their_center_have_a_warning(
    run: Path, audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predict(config(run, audio), run_in_process)
    assert "much longer" not in caplog.text
    soundfile.write(audio / "long.wav", tone(400, 30.0), RATE)
    predict(config(run, audio / "long.wav"), run_in_process)
    assert (
        "only 1 s of each are used, from the center; --window 1 classifies all of a recording" in caplog.text
    )
    caplog.clear()
    predict(config(run, audio / "long.wav", windows=10), run_in_process)
    predict(config(run, audio / "long.wav", window=1.0), run_in_process)
    assert "much longer" not in caplog.text

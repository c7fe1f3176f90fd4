"""Predictions of all windows of recordings: a plain loop gives the same, and files fit together."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from models.config import ConfigError
from pipeline.audio.features import spectrogram
from pipeline.classifier.inference import predict_probabilities
from pipeline.classifier.predict import PredictConfig, plan_job, predict, read_audio
from pipeline.classifier.prediction.recording_list import read_recordings
from pipeline.classifier.windows import stage
from pipeline.data.windows import window_starts
from pipeline.distributed.batch_job import UnitResult, run_in_process
from pipeline.distributed.quarantine import CRASH_REASON
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import RATE, SMALL_FEATURES, tone
from tests.pipeline.classifier.test_predict import run_never

CLASSES = ["p:noise", "p:whale"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_classifier(tmp_path / "run")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write recordings of 5, 3.6 and 0.4 seconds, of which one is in a folder."""
    folder = tmp_path / "test"
    (folder / "a").mkdir(parents=True)
    for number, (name, seconds) in enumerate((("1.wav", 5.0), ("2.wav", 0.4), ("a/1.wav", 3.6))):
        soundfile.write(folder / name, chirp(seconds, number), RATE)
    return folder


def chirp(seconds: float, seed: int) -> np.ndarray:
    """Generate tones of another frequency in each half second."""
    rng = np.random.default_rng(seed)
    parts = [tone(frequency, 0.5) for frequency in rng.uniform(200, 3500, 20)]
    return np.concatenate(parts)[: round(seconds * RATE)]


def config(run: Path, audio: Any, **settings: Any) -> PredictConfig:
    return PredictConfig(
        run=run, audio=audio, out=run.parent / "out", **{"window": 1.0, "hop": 0.5} | settings
    )


def plain_loop(run: Path, path: Path, hop: float = 0.5) -> np.ndarray:
    """Return the probabilities of all windows of a file, read and predicted at a time."""
    saved = load_classifier(run)
    samples, _ = soundfile.read(path, dtype="float32")
    starts = window_starts(len(samples) / RATE, 1.0, hop)
    windows = [samples[round(start * RATE) : round((start + 1) * RATE)] for start in starts]
    mels = np.stack([spectrogram(window, SMALL_FEATURES) for window in windows])
    return predict_probabilities(saved.model, mels)


def outputs(run: Path) -> dict[str, bytes]:
    """Read all files of a prediction but the lock."""
    out = run.parent / "out"
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.parametrize("hop", [0.25, 0.5, 0.7, 1.0])
def test_windows_equal_plain_loop(
    hop: float, run: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(config(run, audio, hop=hop), run_in_process)
    table = pd.read_parquet(run.parent / "out" / "windows.parquet")
    assert list(table) == ["id", "start", "end", *CLASSES]
    for name, windows in table.groupby("id", sort=False):
        expected = plain_loop(run, audio / str(name), hop)
        assert np.allclose(windows[CLASSES].to_numpy(), expected, atol=1e-6)
        assert windows["start"].tolist() == [round(i * hop, 3) for i in range(len(expected))]
        assert windows["end"].tolist() == [round(start + 1, 3) for start in windows["start"]]
    assert table["id"].drop_duplicates().tolist() == ["1.wav", "2.wav", "a/1.wav"]
    events = len(pd.read_csv(run.parent / "out" / "events.csv"))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{len(table)} windows of 3 recordings"
    assert printed[1].startswith(f"{events} event")
    text = pd.read_csv(run.parent / "out" / "windows.csv")
    assert list(text) == list(table) and text["id"].tolist() == table["id"].tolist()
    assert (text[CLASSES].astype(np.float32).to_numpy() == table[CLASSES].to_numpy()).all()


@pytest.mark.parametrize("pool", ["mean", "max", "noisy-or"])
def test_recordings_have_pooled_predictions(pool: str, run: Path, audio: Path) -> None:
    table = predict(config(run, audio, pool=pool), run_in_process).set_index("id")
    for name in ("1.wav", "2.wav", "a/1.wav"):
        windows = plain_loop(run, audio / name).astype(np.float64)
        expected = {
            "mean": windows.mean(0),
            "max": windows.max(0),
            "noisy-or": 1 - np.prod(1 - windows, axis=0),
        }[pool]
        assert np.allclose(table.loc[name, CLASSES].to_numpy(float), expected, atol=1e-5)
        assert table.loc[name, "label"] == CLASSES[int(expected.argmax())].removeprefix("p:")
    submission = pd.read_csv(run.parent / "out" / "submission.csv", dtype=str)
    assert submission["id"].tolist() == table.index.tolist()
    assert submission["label"].tolist() == table["label"].tolist()


def test_ids_of_table_may_share_a_file(run: Path, audio: Path) -> None:
    (audio / "list.csv").write_text("id,path\nfirst;\t1,1.wav\nsecond ü,1.wav\n", encoding="utf-8")
    predict(config(run, audio / "list.csv", threshold=0.01), run_in_process)
    table = pd.read_parquet(run.parent / "out" / "windows.parquet").set_index("id")
    for name in ("first;\t1", "second ü"):
        assert np.allclose(table.loc[name, CLASSES].to_numpy(), plain_loop(run, audio / "1.wav"), atol=1e-6)
    files = {path.name for path in (run.parent / "out" / "audacity").iterdir()}
    assert files == {"first;_1.txt", "second ü.txt"}


def test_only_hop_or_only_window_implies_other(run: Path, audio: Path) -> None:
    predict(config(run, audio, hop=0.5, window=None), run_in_process)
    with_hop = outputs(run)
    predict(config(run, audio), run_in_process)
    assert outputs(run) == with_hop
    predict(config(run, audio, hop=None), run_in_process)
    windows = pd.read_csv(run.parent / "out" / "windows.csv")
    assert windows["start"].tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 5}, "--window 5: the model was trained on clips of 1 s"),
        ({"hop": 1.5}, "--hop 1.5: leaves gaps between windows of 1 s; lower it to 1"),
        ({"window": None, "hop": None, "threshold": 0.3}, "--threshold 0.3 needs --window"),
    ],
)
def test_unusable_windows_end_with_one_line(
    settings: dict[str, Any], message: str, run: Path, audio: Path
) -> None:
    with pytest.raises(UserError, match=message):
        predict(config(run, audio, **settings), run_never)


@pytest.mark.parametrize("settings", [{"windows": 3}, {"window": None, "hop": None, "pool": "max"}])
def test_contradicting_flags_are_refused(settings: dict[str, Any], run: Path, audio: Path) -> None:
    with pytest.raises(ConfigError, match=r"windows 3 is for whole clips|--pool max needs --window"):
        config(run, audio, **settings)


def test_unreadable_recording_is_one_rejected_line(run: Path, audio: Path) -> None:
    (audio / "0.flac").write_bytes(b"fLaC and nothing else")
    table = predict(config(run, audio, row_id="{id}_{end}"), run_in_process).set_index("id")
    assert table.index.tolist() == ["0.flac", "1.wav", "2.wav", "a/1.wav"]
    assert np.allclose(table.loc["0.flac", CLASSES].astype(float), [0.75, 0.25])
    rejected = pd.read_csv(run.parent / "out" / "rejected.csv")
    assert rejected["clip_id"].tolist() == ["0.flac"]
    assert "0.flac" not in set(pd.read_csv(run.parent / "out" / "windows.csv")["id"])
    assert pd.read_csv(run.parent / "out" / "submission.csv")["id"].tolist()[:2] == ["0.flac_1", "1.wav_1"]


def damage(monkeypatch: pytest.MonkeyPatch, first: float, last: float) -> None:
    """Have the windows of `1.wav` that begin from `first` to `last` seconds be unreadable."""
    read = stage.read_each_window

    def read_damaged(path: str, starts: list[float], *arguments: Any) -> Iterator[Any]:
        for start, samples in zip(starts, read(path, starts, *arguments), strict=True):
            is_damaged = path.endswith("test/1.wav") and first <= start <= last
            yield stage.AudioDecodeError("damaged frame") if is_damaged else samples

    monkeypatch.setattr(stage, "read_each_window", read_damaged)


def test_damaged_part_leaves_readable_windows(
    run: Path, audio: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = plain_loop(run, audio / "1.wav")
    damage(monkeypatch, 1.0, 2.0)
    with caplog.at_level(logging.WARNING, logger="melray"):
        table = predict(config(run, audio, row_id="{id}_{start}"), run_in_process).set_index("id")
    windows = pd.read_parquet(run.parent / "out" / "windows.parquet").set_index("id").loc["1.wav"]
    readable = [0, 1, 5, 6, 7, 8]
    assert windows["start"].tolist() == [i / 2 for i in readable]
    assert np.allclose(windows[CLASSES], expected[readable], atol=1e-6)
    assert np.allclose(table.loc["1.wav", CLASSES].astype(float), expected[readable].mean(0), atol=1e-6)
    rejected = pd.read_csv(run.parent / "out" / "rejected.csv")
    assert rejected["clip_id"].tolist() == ["1.wav"]
    assert rejected["reason"].tolist() == ["1 to 3 s: damaged frame"]
    assert any("1 part of recordings could not be read" in message for message in caplog.messages)
    # Also windows that cannot be read have a row in the submission.
    assert len(pd.read_csv(run.parent / "out" / "submission.csv")) == 9 + 1 + 6


def test_quarantined_window_is_rejected_alone(run: Path, audio: Path) -> None:
    settings = config(run, audio)
    clips = read_recordings(read_audio(settings.audio).clips, 1.0, 0.5).windows()
    job = plan_job(settings, clips)
    (job.folder / ".attempts").mkdir()
    record = {"crashes": {"1.wav@000001.500": 3}, "clip": ""}
    (job.folder / ".attempts" / f"{job.units[0].name}.json").write_text(json.dumps(record))
    predict(settings, run_in_process)
    rejected = pd.read_csv(run.parent / "out" / "rejected.csv")
    assert rejected["reason"].tolist() == [f"1.5 to 2.5 s: {CRASH_REASON}"]
    windows = pd.read_csv(run.parent / "out" / "windows.csv")
    assert 1.5 not in windows["start"][windows["id"] == "1.wav"].tolist() and len(windows) == 15


def test_interrupted_prediction_resumes_to_same_files(
    run: Path, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.classifier.predict.CLIPS_PER_UNIT", 4)
    monkeypatch.setattr("pipeline.classifier.predict.WINDOWS_PER_READING", 4)
    predict(config(run, audio), run_in_process)
    undisturbed = outputs(run)
    made: list[str] = []

    def interrupted(units: Any, stages: Any) -> Iterator[UnitResult]:
        for result in run_in_process(units[:2] if not made else units, stages):
            made.append(result.name)
            yield result
            if len(made) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(config(run, audio), interrupted)
    predict(config(run, audio), interrupted)
    assert len(made) == len(set(made)) == 4  # 16 windows, of which two units share the first recording
    assert outputs(run) == undisturbed


def test_own_annotations_in_the_output_folder_are_kept(run: Path, audio: Path) -> None:
    out = config(run, audio).out
    (out / "raven").mkdir(parents=True)
    (out / "raven" / "mine.txt").write_text("selections")
    (out / "events.csv").write_text("path,start,end,label\n")
    with pytest.raises(UserError, match=r"^--out .* contains raven/, which no prediction of windows wrote"):
        predict(config(run, audio, window=1.0), run_in_process)
    predict(PredictConfig(run=run, audio=audio, out=out), run_in_process)  # of clips, which replaces neither
    assert (out / "raven" / "mine.txt").read_text() == "selections" and (out / "events.csv").is_file()
    with pytest.raises(UserError, match="contains raven/"):
        predict(config(run, audio, window=1.0), run_in_process)


def test_prediction_of_clips_replaces_that_of_windows(run: Path, audio: Path) -> None:
    predict(config(run, audio), run_in_process)
    assert {"windows.csv", "windows.parquet", "events.csv"} <= set(outputs(run))
    predict(config(run, audio, window=None, hop=None), run_in_process)
    names = ["predictions.parquet", "rejected.csv", "submission.csv", "warnings.csv"]
    assert sorted(path.name for path in (run.parent / "out").iterdir() if path.name[0] != ".") == names


def test_parts_of_merge_do_not_change_files(run: Path, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.classifier.predict.CLIPS_PER_UNIT", 1)
    monkeypatch.setattr("pipeline.classifier.predict.WINDOWS_PER_READING", 1)
    predict(config(run, audio, row_id="{id}@{start}"), run_in_process)
    whole = outputs(run)
    tables = {name: pd.read_parquet(run.parent / "out" / name) for name in whole if name.endswith("parquet")}
    monkeypatch.setattr("pipeline.classifier.prediction.merge.ROW_GROUP_BYTES", 1)
    predict(config(run, audio, row_id="{id}@{start}"), run_in_process)
    parts = outputs(run)
    for name, table in tables.items():  # which have other row groups
        assert pd.read_parquet(run.parent / "out" / name).equals(table)
        del whole[name], parts[name]
    assert parts == whole


# Predicts, and ends itself as soon as a unit is finished, as `kill -9` would.
KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.classifier import predict as module
from pipeline.distributed.batch_job import run_in_process

def runner(units, stages):
    for result in run_in_process(units, stages):
        os.kill(os.getpid(), signal.SIGKILL)

module.CLIPS_PER_UNIT = module.WINDOWS_PER_READING = 2
run, audio, out = map(Path, sys.argv[1:])
module.predict(module.PredictConfig(run=run, audio=audio, out=out, window=1.0, hop=0.1), runner)
"""


def test_killed_prediction_resumes_to_same_files(
    run: Path, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.classifier.predict.CLIPS_PER_UNIT", 2)
    monkeypatch.setattr("pipeline.classifier.predict.WINDOWS_PER_READING", 2)
    (run.parent / "killed.py").write_text(KILLED)
    out = run.parent / "out"
    killed = subprocess.run([sys.executable, run.parent / "killed.py", run, audio, out], check=False)
    assert killed.returncode == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in (out / ".parts").glob("part-*.parquet")}
    assert finished

    def checking(units: Any, stages: Any) -> Iterator[UnitResult]:
        yield from run_in_process(units, stages)
        for name, time in finished.items():
            assert (out / ".parts" / name).stat().st_mtime_ns == time

    predict(config(run, audio, hop=0.1), checking)
    resumed = outputs(run)
    predict(config(run, audio, hop=0.1), run_in_process)
    assert outputs(run) == resumed

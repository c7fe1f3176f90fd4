"""Scores of detected events by annotations: values, files, and what does not count."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from models.config import ConfigError
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.classifier.prediction.recording_list import RecordingList
from pipeline.classifier.windows.event_scores import (
    ReferenceEvents,
    describe_event_metrics,
    event_metrics,
    read_reference_events,
    reference_events,
    write_event_scores,
)
from pipeline.data.annotations.annotation import Annotation
from pipeline.distributed.batch_job import run_in_process
from pipeline.io.errors import UserError
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import RATE, tone

CLASSES = ("dog", "rain")


def events(*rows: tuple[float, float, int]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, 3)


def test_scores_of_a_worked_example() -> None:
    """Two of three true events are found, one of them with a wrong end, and one is false."""
    true = {"a": events((1, 2, 0), (5, 8, 1)), "b": events((0, 1, 0))}
    found = {"a": events((1.4, 2.4, 0), (5, 6, 1)), "c": events((0, 1, 0))}
    metrics = event_metrics(true, found, {"a": 10.0, "b": 1.0}, CLASSES)
    dog, rain = metrics["events"]["per_class"]
    assert (dog["reference"], dog["predicted"], dog["precision"], dog["recall"]) == (2, 1, 1.0, 0.5)
    assert (rain["reference"], rain["predicted"], rain["f1"]) == (1, 1, 0.0)
    assert metrics["events"]["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert metrics["onsets"]["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    # Of the dog two segments are true and two predicted, one in common; of rain one of three is found.
    assert [entry["f1"] for entry in metrics["segments"]["per_class"]] == pytest.approx([2 / 4, 2 / 4])
    assert metrics["recordings"] == 2 and metrics["collar_seconds"] == 0.5
    assert describe_event_metrics(metrics) == (
        "3 annotated events of 2 recordings: macro-F1 0.33 (micro-averaged precision 0.50, recall 0.33), "
        "by starts only 0.83, in segments of 1 s 0.50"
    )


def test_files_have_the_scores_of_each_class(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("id,start,end,label,probability\nx,1,2,dog,0.9\n", encoding="utf-8")
    text = write_event_scores(tmp_path, ReferenceEvents({"x": events((1, 2, 0))}, {"x": 5.0}), CLASSES)
    assert text.startswith(
        "1 annotated event of 1 recording: macro-F1 1.00 (micro-averaged precision 1.00, recall 1.00)"
    )
    metrics = json.loads((tmp_path / "event_scores.json").read_text(encoding="utf-8"))
    assert metrics["events"]["macro_f1"] == metrics["segments"]["micro_f1"] == 1.0
    rows = list(csv.DictReader((tmp_path / "event_scores.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == {
        "label": "dog", "annotated": "1", "detected": "1", "precision": "1.0", "recall": "1.0", "f1": "1.0",
        "onset_f1": "1.0", "segment_precision": "1.0", "segment_recall": "1.0", "segment_f1": "1.0",
    }  # fmt: skip
    assert (rows[1]["label"], rows[1]["annotated"], rows[1]["f1"]) == ("rain", "0", "0.0")


def test_events_are_those_of_the_model_within_the_recording() -> None:
    clips = pd.DataFrame({"clip_id": ["a", "b", "c"], "path": ["/a", "/b", "/c"]})
    recordings = RecordingList(clips, np.array([10.0, math.nan, 10.0]), 5.0, 5.0)
    annotated = {
        "/a": [
            Annotation(-3, -2, "dog"),
            Annotation(-1, 2, "dog;rain"),
            Annotation(9, 12, "dog"),
            Annotation(11, 12, "dog"),
        ],
        "/b": [Annotation(3, 4, "rain"), Annotation.of_recording("dog"), Annotation(0, 1, "owl")],
        "/elsewhere": [Annotation(0, 1, "dog")],
    }
    truth = reference_events(annotated, recordings, CLASSES)
    assert truth.events["a"].tolist() == [[0, 2, 0], [0, 2, 1], [9, 10, 0]]
    # Unreadable, so that its length is not known; the event of the whole recording has no end.
    assert truth.events["b"].tolist() == [[3, 4, 1]] and truth.seconds == {"a": 10.0, "b": 4.0}
    assert truth.warnings == [
        "event scores leave out 1 recording without annotations",
        "event scores leave out 1 annotated event of classes that the model does not have, "
        "such as 1 of 'owl'",
        "2 events outside of the recording, in annotations of 'a'; do the annotations belong to these files?",
    ]
    with pytest.raises(UserError, match="--annotations: of none of the 3 recordings of --audio"):
        reference_events({"/elsewhere": []}, recordings, CLASSES)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Write two recordings of four seconds."""
    folder = tmp_path / "audio"
    (folder / "site").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "site/b.wav")):
        soundfile.write(folder / name, np.tile(tone(300 + 900 * number, 0.5), 8), RATE)
    return folder


def config(folder: Path, **settings: object) -> PredictConfig:
    root = folder.parent
    values = {"window": 1.0, "hop": 0.5, "threshold": 0.3, "annotations": "auto", "audio": folder}
    values |= {"run": save_classifier(root / "run"), "out": root / "out"} | settings
    return PredictConfig(**values)


@pytest.mark.parametrize("form", ["next to the recordings", "folder", "table"])
def test_detected_events_as_annotations_have_perfect_scores(
    audio: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = audio.parent / "out"
    write_predictions(config(audio, annotations=None), run_in_process)
    assert not (out / "event_scores.json").exists()
    found = pd.read_csv(out / "events.csv")
    assert set(found["id"]) == {"a.wav", "site/b.wav"}
    annotations: Path | str = audio.parent / "truth"
    if form == "table":
        annotations = audio.parent / "truth.csv"
        found.rename(columns={"id": "path"}).drop(columns="probability").to_csv(annotations, index=False)
    else:
        target = audio if form == "next to the recordings" else audio.parent / "truth"
        for recording in ("a.wav", "site/b.wav"):
            labels = found[found["id"] == recording][["start", "end", "label"]]
            path = (target / recording).with_suffix(".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            labels.to_csv(path, sep="\t", header=False, index=False)
        annotations = "auto" if target == audio else target
    write_predictions(config(audio, annotations=annotations), run_in_process)
    metrics = json.loads((out / "event_scores.json").read_text(encoding="utf-8"))
    assert metrics["recordings"] == 2
    for part in ("events", "onsets", "segments"):
        assert metrics[part]["macro_f1"] == metrics[part]["micro_f1"] == 1.0
    assert "annotated events of 2 recordings: macro-F1 1.00" in capsys.readouterr().out
    # Scores of other predictions do not stay.
    write_predictions(config(audio, annotations=None, threshold=0.9), run_in_process)
    assert not (out / "event_scores.json").exists() and not (out / "event_scores.csv").exists()


def test_recordings_without_annotations_do_not_count(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    (audio / "a.txt").write_text("0\t1\tnoise\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        write_predictions(config(audio), run_in_process)
    metrics = json.loads((audio.parent / "out" / "event_scores.json").read_text(encoding="utf-8"))
    assert metrics["recordings"] == 1
    assert "event scores leave out 1 recording without annotations" in caplog.text


SELECTIONS = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tSpecies\n1\tSpectrogram 1\t0\t4\twhale\n"


@pytest.mark.parametrize(
    ("name", "text"), [("x.selections.txt", SELECTIONS), ("labels.txt", "0\t4\twhale\n")]
)
def test_annotations_that_name_no_recording_are_those_of_the_only_one(
    audio: Path, name: str, text: str
) -> None:
    truth = audio.parent / name
    truth.write_text(text, encoding="utf-8")
    labeled = config(audio, audio=audio / "site" / "b.wav", annotations=truth)
    write_predictions(labeled, run_in_process)
    metrics = json.loads((labeled.out / "event_scores.json").read_text(encoding="utf-8"))
    assert metrics["recordings"] == 1
    assert [entry["reference"] for entry in metrics["events"]["per_class"]] == [0, 1]
    with pytest.raises(UserError, match="names no recording, of which there are 2; give the folder"):
        write_predictions(config(audio, annotations=truth), run_in_process)


def test_annotations_of_recordings_that_are_not_predicted_do_not_matter(
    audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (audio / "copy").mkdir()
    for name in ("b.wav", "c.wav"):
        (audio / "copy" / name).write_bytes((audio / "a.wav").read_bytes())
    (audio / "a.txt").write_text("0\t1\tnoise\n", encoding="utf-8")
    (audio / "copy" / "b.txt").write_text("no annotations\n", encoding="utf-8")
    listed = audio / "list.csv"
    listed.write_text("path\na.wav\n", encoding="utf-8")
    truth = audio.parent / "truth"
    truth.mkdir()
    for name in ("a.txt", "b.txt"):  # the latter is that of two recordings
        (truth / name).write_text("0\t1\tnoise\n", encoding="utf-8")
    for number, (source, form) in enumerate(((audio / "a.wav", "auto"), (listed, "auto"), (listed, truth))):
        predicted = config(audio, audio=source, annotations=form, out=audio.parent / f"out {number}")
        with caplog.at_level(logging.WARNING):
            write_predictions(predicted, run_in_process)
        metrics = json.loads((predicted.out / "event_scores.json").read_text(encoding="utf-8"))
        assert metrics["recordings"] == 1
    assert "no annotation file" not in caplog.text and "without annotations" not in caplog.text


@pytest.mark.parametrize(
    ("names", "splits"), [(("a.wav", "b.wav"), ("train", "test")), (("train/a.wav", "test/b.wav"), ("", ""))]
)
def test_events_of_held_out_recordings_are_scored(
    names: tuple[str, str], splits: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "audio"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, tone(300, 0.1), RATE)
    table = tmp_path / "truth.csv"
    rows = [f"{name},1,2,dog,{split}" for name, split in zip(names, splits, strict=True)]
    table.write_text("\n".join(["path,start,end,label,split", *rows]), encoding="utf-8")
    clips = pd.DataFrame({"clip_id": names, "path": [str(folder / name) for name in names]})
    for chosen in (clips, clips[1:]):  # all of them, or the held-out one
        recordings = RecordingList(chosen, np.full(len(chosen), 4.0), 1.0, 1.0)
        truth = read_reference_events(config(folder, annotations=table), [folder], recordings, CLASSES)
        assert {name: found.tolist() for name, found in truth.events.items()} == {
            name: [[1.0, 2.0, 0.0]] for name in chosen["clip_id"]
        }


def test_selection_of_several_views_and_files_counts_once(audio: Path) -> None:
    rows = [
        f"1\t{view}\t{start}\t{start + 1}\t{name}\twhale"
        for start, name in enumerate(("a.wav", "b.wav"))
        for view in ("Waveform 1", "Spectrogram 1")
    ]
    truth = audio.parent / "truth.txt"
    header = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin File\tSpecies"
    truth.write_text("\n".join([header, *rows]), encoding="utf-8")
    for number, form in enumerate((truth, "auto")):
        for path in (audio / "a.txt", audio / "a.other.txt", audio / "site" / "b.txt"):
            path.write_text("0\t1\twhale\n", encoding="utf-8")
        scored = config(audio, annotations=form, out=audio.parent / f"out {number}")
        write_predictions(scored, run_in_process)
        metrics = json.loads((scored.out / "event_scores.json").read_text(encoding="utf-8"))
        assert [entry["reference"] for entry in metrics["events"]["per_class"]] == [0, 2]


def test_annotations_are_checked_before_predicting(audio: Path) -> None:
    for value, message in (
        ("auto", "^--annotations auto: none of 2 recordings has an annotation file"),
        (audio.parent / "none", "^--annotations .*none: no such folder or CSV file"),
    ):
        with pytest.raises(UserError, match=message):
            write_predictions(config(audio, annotations=value), run_in_process)
        assert not (audio.parent / "out").exists()


def test_annotations_need_windows() -> None:
    paths = {name: Path(name) for name in ("run", "audio", "out")}
    with pytest.raises(ConfigError, match="--annotations auto needs --window"):
        PredictConfig(**paths, annotations="auto")
    with pytest.raises(ConfigError, match="--label-column x needs --annotations"):
        PredictConfig(**paths, window=1.0, label_column="x")

"""The report page: self-contained, escaped, whole for any number of classes, and its charts in the right place."""

from __future__ import annotations

import base64
import io
import math
import os
import re
from pathlib import Path

import librosa
import numpy as np
import pytest
from PIL import Image

from models.metrics import classification_metrics
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.classifier.report import MAX_MISTAKES, Example, Mistake, write_report
from pipeline.report import page
from pipeline.report.charts import Series, format_number, line_chart, ticks, truncate_text
from pipeline.report.clips import (
    NUM_COLOURS,
    decibel_scale,
    frequency_ticks,
    spectrogram_data_uri,
    time_ticks,
)
from pipeline.report.confusion import confusion_chart
from tests.helpers.html_page import Page, assert_accessible, assert_self_contained

FEATURES = FeatureConfig()


def mel_like(seed: int, shape: tuple[int, int] = FEATURES.shape) -> np.ndarray:
    return np.random.default_rng(seed).normal(-40, 12, shape).astype(np.float16)


def history(epochs: int, validated: bool = True) -> list[dict]:
    lines = []
    for epoch in range(1, epochs + 1):
        line = {"epoch": epoch, "train_loss": 2.0 / epoch, "learning_rate": 1e-3 / epoch, "seconds": 3.0}
        if validated:
            line |= {
                "val_loss": 2.2 / epoch,
                "val_accuracy": 1 - 0.9 / epoch,
                "val_macro_f1": 1 - 0.95 / epoch,
                "best": epoch <= 2,
            }
        lines.append(line)
    return lines


def report(
    folder: Path,
    names: list[str],
    lines: list[dict] | None = None,
    never: int | None = None,
    mistakes: int = 3,
) -> str:
    """Writes a report of random answers and returns its text."""
    rng = np.random.default_rng(0)
    labels = np.arange(4 * len(names)) % len(names)
    odds = rng.random((len(labels), len(names))) + 1.5 * np.eye(len(names))[labels]
    if never is not None:
        odds[:, never] = 0.0
    path = folder / "report.html"
    write_report(
        path,
        title="A <test> & more",
        summary={"data": "<here>", "device": "CPU"},
        metrics=classification_metrics(odds / odds.sum(axis=1, keepdims=True), labels, names),
        history=history(3) if lines is None else lines,
        mistakes=[
            Mistake(f"clip {i}", names[0], names[-1], 0.5 + i / 1000, mel_like(i)) for i in range(mistakes)
        ],
        examples=[Example(f"example {name}", name, mel_like(i)) for i, name in enumerate(names)],
        features=FEATURES,
        settings={"optimizer": {"name": "<adamw>", "betas": [0.9, 0.95]}, "resume": None},
    )
    return path.read_text(encoding="utf-8")


def test_page_needs_nothing_outside_itself(tmp_path):
    text = report(tmp_path, list("abc"))
    assert_self_contained(text)
    assert os.listdir(tmp_path) == ["report.html"]


def test_page_is_accessible(tmp_path):
    parsed = Page(report(tmp_path, list("abc")))
    assert_accessible(parsed)
    assert len(parsed.find_all("table")) == 2


def test_all_text_is_escaped(tmp_path):
    names = ["<script>alert(1)</script>", "\"quoted\" & 'single'", "犬 été", "</title></style><b x='"]
    text = report(tmp_path, names)
    parsed = Page(text)
    assert not parsed.find_all("script")
    assert not [attrs for attrs in parsed.find_all("b") if "x" in attrs]
    for name in [*names, "A <test> & more", "<here>", "<adamw>"]:
        assert name in parsed.text
    assert "optimizer.betas" in parsed.text
    assert "0.9, 0.95" in parsed.text


def test_file_names_that_are_not_utf8(tmp_path):
    text = report(tmp_path, ["plain", os.fsdecode(b"caf\xe9")])
    assert "caf\\udce9" in text


def test_headline_and_mistakes(tmp_path):
    parsed = Page(report(tmp_path, list("abc"), mistakes=20))
    for words in (
        "Accuracy",
        "Macro-F1",
        "Log-loss",
        "Calibration error",
        "of 12 clips",
        f"{MAX_MISTAKES} of 20",
    ):
        assert words in parsed.text
    assert parsed.text.count("said c (5") == MAX_MISTAKES
    assert "said c (52\u202f%), is a" in parsed.text
    shown = [int(number) for number in re.findall(r"is aclip (\d+)", parsed.text)]
    assert shown == list(range(19, 7, -1))


@pytest.mark.parametrize("classes", [1, 2, 10, 50])
def test_any_number_of_classes(tmp_path, classes):
    text = report(tmp_path, [f"class {i}" for i in range(classes)])
    parsed = Page(text)
    assert len(parsed.find_all("image")) == classes + 3 + 2
    if classes == 10:
        assert len(text) < 1_500_000


def test_without_validation_mistakes_and_examples(tmp_path):
    parsed = Page(report(tmp_path, list("ab"), history(5, validated=False), mistakes=0))
    assert "Trained without validation" in parsed.text
    assert "macro-F1" not in parsed.text
    assert "validation:" not in str(parsed.tags)
    assert "Not one clip was taken for another class" in parsed.text


@pytest.mark.parametrize("epochs", [0, 1, 500])
def test_few_and_many_epochs(tmp_path, epochs):
    parsed = Page(report(tmp_path, list("ab"), history(epochs)))
    assert f"{epochs} epoch{'' if epochs == 1 else 's'} in" in parsed.text
    assert ("epoch 2." in parsed.text) == (epochs > 1)


def test_class_never_predicted_comes_first(tmp_path):
    parsed = Page(report(tmp_path, ["a", "never said", "c"], never=1))
    assert "recallclipsnever said0.0" in parsed.text.partition("worst F1 first")[2]


def test_class_without_clips_has_no_score_and_comes_last(tmp_path):
    metrics = classification_metrics(np.full((2, 3), 1 / 3), np.array([0, 0]), ["a", "b", "no clips"])
    path = tmp_path / "deep" / "er" / "report.html"
    write_report(
        path, title="t", summary={}, metrics=metrics, history=[], mistakes=[], examples=[], features=FEATURES
    )
    table = Page(path.read_text(encoding="utf-8")).text.partition("worst F1 first")[2]
    assert table.index("a100.0") < table.index("no clips–––0")


def test_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    before = report(tmp_path, list("ab"))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        page.write_page(tmp_path / "report.html", "<p>new</p>")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert os.listdir(tmp_path) == ["report.html"]


def test_line_chart_leaves_gaps_and_shows_lone_points():
    svg = line_chart(
        "Loss <x>",
        [Series("a & b", [1, 2, 3, 4, 5], [1.0, None, math.nan, 0.5, 0.25]), Series("c", [1], [2.0])],
        "epoch",
    )
    parsed = Page(svg)
    paths = [attrs["d"] for attrs in parsed.find_all("path") if attrs.get("class") == "line"]
    assert [(d.count("M"), d.count("L")) for d in paths if "H" not in d] == [(2, 1), (1, 0)]
    label = parsed.find_all("svg")[-1]["aria-label"]
    assert label == "Loss <x>. a & b: 1 at epoch 1, 0.25 at epoch 5; c: 2 at epoch 1."
    assert "No values" in line_chart("none", [Series("a", [1], [math.inf])], "epoch")


def test_line_chart_thins_very_long_lines_and_keeps_the_last_point():
    points = Series("a", range(100_000), [float(i) for i in range(100_000)]).points()
    assert len(points) <= 601
    assert points[0] == (0, 0.0)
    assert points[-1] == (99_999, 99_999.0)


@pytest.mark.parametrize(
    ("low", "high", "whole", "want"),
    [
        (0.0, 1.0, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.13, 2.3, False, [0, 0.5, 1, 1.5, 2, 2.5]),
        (0.0, 0.001, False, [0, 2e-4, 4e-4, 6e-4, 8e-4, 1e-3]),
        (1, 3, True, [1, 2, 3]),
        (7, 7, True, [7]),
        (0.0, 0.0, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-2.0, -2.0, False, [-3, -2.5, -2, -1.5, -1]),
    ],
)
def test_ticks(low, high, whole, want):
    assert ticks(low, high, 5, whole) == pytest.approx(want)


def test_texts_of_numbers():
    assert [
        format_number(v) for v in (0, 3e-4, 1.24e-5, 0.25, 12.0, 1234.0, 12_345.0, 2.5e6)
    ] == "0 3e-4 1.2e-5 0.25 12 1234 12.3k 2.5M".split()
    assert [page.percent(v).replace("\u202f", "") for v in (0, 0.0001, 0.123, 0.9999, 1)] == [
        "0.0%",
        "<0.1%",
        "12.3%",
        ">99.9%",
        "100.0%",
    ]
    assert [page.percent(v, 0).replace("\u202f", "") for v in (0.97, 0.996, 1)] == ["97%", ">99%", "100%"]
    assert truncate_text("a long name", 30.0, 10) == "a lo…"
    assert truncate_text("犬の鳴き声", 30.0, 10) == "犬の…"


def test_confusion_chart_draws_what_is_there():
    chart = Page(confusion_chart([[5, 1], [0, 7]], ["<a>", "b"]))
    assert [attrs["class"] for attrs in chart.find_all("rect")] == ["cell-right", "cell-wrong", "cell-right"]
    assert "<a> taken for b: 1 of 6 (16.7\u202f%)" in chart.text


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_picture_has_low_frequencies_below_and_clips_to_the_scale():
    mel = np.array([[-100.0, -80.0, np.nan], [-40.0, 0.0, 20.0]], np.float16)
    image = decoded(spectrogram_data_uri(mel, (-80.0, 0.0)))
    assert image.mode == "P"
    assert np.asarray(image).tolist() == [[NUM_COLOURS // 2, NUM_COLOURS - 1, NUM_COLOURS - 1], [0, 0, 0]]


def test_picture_of_a_long_clip_is_averaged():
    mel = np.tile(np.repeat([-80.0, 0.0], 5000), (512, 1))
    image = np.asarray(decoded(spectrogram_data_uri(mel, (-80.0, 0.0))))
    assert image.shape == (160, 400)
    assert (image[:, :200] == 0).all()
    assert (image[:, 200:] == NUM_COLOURS - 1).all()


def test_decibel_scale():
    assert decibel_scale([np.full((2, 2), -7.0), np.full((3, 4), -33.0, np.float16)]) == (-85.0, -5.0)
    assert decibel_scale([]) == (-80.0, 0.0)
    assert decibel_scale([np.full((2, 2), np.nan)]) == (-80.0, 0.0)


@pytest.mark.parametrize(
    "config",
    [MelConfig(), MelConfig(sample_rate=44_100, n_mels=64, fmin=50, fmax=16_000), MelConfig(n_mels=20)],
)
def test_frequency_ticks_lie_on_the_bands_of_librosa(config):
    top = config.fmax or config.sample_rate / 2
    centres = librosa.mel_frequencies(config.n_mels + 2, fmin=config.fmin, fmax=top)[1:-1]
    found = frequency_ticks(config, config.n_mels)
    assert len(found) >= 5
    for hertz, place in found:
        # Within a band, frequency is all but linear.
        want = (np.interp(hertz, centres, np.arange(config.n_mels)) + 0.5) / config.n_mels
        if centres[0] <= hertz <= centres[-1]:
            assert place == pytest.approx(want, abs=0.01)


def test_time_ticks_end_within_the_picture():
    config = MelConfig()
    frames = config.num_frames(5 * 22_050)
    assert [seconds for seconds, _ in time_ticks(config, frames)] == [0, 1, 2, 3, 4, 5]
    assert all(0 < place <= 1 for _, place in time_ticks(config, frames))
    assert time_ticks(config, 1)[0][0] == 0

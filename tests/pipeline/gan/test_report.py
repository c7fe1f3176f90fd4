"""The report of a GAN: self-contained, escaped, whole for whatever is missing, and its sounds are heard as they are."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import fix_length
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.audio.synthesize import synthesize_clip
from pipeline.gan.report import MAX_STAGES, ClassSounds, EpochSnapshot, NearestPair, Sound, write_gan_report
from pipeline.report.clips import audio_data_uri, audio_player
from tests.helpers.html_page import Page, assert_accessible, assert_self_contained
from tests.helpers.sounds import RATE, SMALL_FEATURES, tone


def sound(name: str, hertz: float = 440.0) -> Sound:
    samples = tone(hertz)
    return Sound(name, spectrogram(samples, SMALL_FEATURES), samples)


def class_sounds(names: list[str], real: int = 1, drawn: int = 2) -> list[ClassSounds]:
    return [
        ClassSounds(
            name,
            [sound(f"<clip> {name} {i}") for i in range(real)],
            [sound(f"seed {i}") for i in range(drawn)],
        )
        for name in names
    ]


def stages(epochs: list[int], classes: int) -> list[EpochSnapshot]:
    return [
        EpochSnapshot(epoch, np.random.default_rng(epoch).normal(-40, 12, (classes, *SMALL_FEATURES.shape)))
        for epoch in epochs
    ]


def history(epochs: int, every: int = 5) -> list[dict]:
    lines = []
    for epoch in range(1, epochs + 1):
        line = {
            "epoch": epoch,
            "discriminator_loss": 0.6,
            "generator_loss": 1 / epoch,
            "real_score": 1.0,
            "fake_score": -0.5,
        }
        line |= {"diversity": 0.7, "augment_p": 0.1, "learning_rate": 1e-3, "seconds": 3.0, "best": False}
        if epoch % every == 0:
            line |= {"class_accuracy": 0.8, "frechet": 100 / epoch, "best": epoch <= 10}
        lines.append(line)
    return lines


def metrics(names: list[str], **changes: object) -> dict:
    count = len(names)
    confusion = 10 * np.eye(count, dtype=int)
    # The last class is heard as the first, 4 times of 10.
    confusion[-1, -1] -= 4
    confusion[-1, 0] += 4
    entries = [
        {"name": name, "clips": 10, "class_accuracy": 1.0, "confidence": 0.9, "most_confused_with": None}
        for name in names
    ]
    entries[-1] |= {"class_accuracy": 0.6, "confidence": 0.55, "most_confused_with": names[0]}
    figures = {
        "clips": 10 * count,
        "per_class": entries,
        "class_accuracy": 0.871,
        "real_class_accuracy": 0.962,
        "frechet": {"generated": 14.237, "untrained": 263.11, "real": 4.452, "held_out_clips": 100},
        "density": 0.834,
        "coverage": 0.771,
        "real_density": 1.02,
        "real_coverage": 0.955,
        "nearest": {"generated": 4.12, "held_out": 4.41, "ratio": 0.934, "suspected_copies": 0},
        "confusion": confusion.tolist(),
    }
    return figures | changes


def report(folder: Path, names: list[str], **changes: object) -> str:
    """Writes a report and returns its text."""
    path = folder / "report.html"
    parts = {
        "title": "A <test> & more",
        "summary": {"data": "<here>"},
        "metrics": metrics(names),
        "history": history(12),
        "classes": class_sounds(names),
        "stages": stages([5, 10], len(names)),
        "neighbours": [
            NearestPair(names[0], sound("far"), sound("its <real>"), 0.812),
            NearestPair(names[-1], sound("near"), sound("r"), 0.3),
        ],
        "features": SMALL_FEATURES,
        "settings": {"loss": "<hinge>"},
    }
    write_gan_report(path, **parts | changes)
    return path.read_text(encoding="utf-8")


def decoded(uri: str) -> tuple[np.ndarray, int, str]:
    head, _, text = uri.partition(";base64,")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")
    return samples, rate, head


def test_page_needs_nothing_outside_itself(tmp_path):
    text = report(tmp_path, list("abc"))
    assert_self_contained(text)
    assert "media-src data:;" in text
    assert os.listdir(tmp_path) == ["report.html"]


def test_page_is_accessible(tmp_path):
    parsed = Page(report(tmp_path, list("abc")))
    assert_accessible(parsed)
    assert {attrs["aria-label"] for attrs in parsed.find_all("audio")} >= {
        "Sound of real a: <clip> a 0",
        "Sound of drawn c: seed 1",
    }
    assert all(attrs["preload"] == "none" for attrs in parsed.find_all("audio"))


def test_all_text_is_escaped(tmp_path):
    names = ["<script>alert(1)</script>", "\"quoted\" & 'single'", "犬 été", "</title></style><b x='"]
    collapse = {"epoch": 13, "collapse": "epoch 13 collapsed: <i x>"}
    parsed = Page(report(tmp_path, names, history=[*history(12), collapse]))
    assert not parsed.find_all("script")
    assert not [attrs for attrs in parsed.find_all("b") + parsed.find_all("i") if "x" in attrs]
    wanted = [
        *names,
        "A <test> & more",
        "<here>",
        "<hinge>",
        "<clip> 犬 été 0",
        "its <real>",
        "Epoch 13 collapsed: <i x>.",
    ]
    assert not [text for text in wanted if text not in parsed.text]
    # Titles of rows, of classes, of the nearest clip, and those in the matrix.
    assert all(parsed.text.count(name) >= 5 for name in names)


def test_sounds_are_those_that_were_given(tmp_path):
    classes = [
        ClassSounds(name, [sound("real", 300.0 + 100 * i)], [sound("drawn", 350.0 + 100 * i)])
        for i, name in enumerate("abc")
    ]
    parsed = Page(report(tmp_path, list("abc"), classes=classes))
    players = parsed.find_all("audio")
    assert len(players) == 6 + 4
    pitches = []
    for attrs in players[:6]:
        samples, rate, _ = decoded(attrs["src"])
        assert (samples.size, rate) == (SMALL_FEATURES.num_samples, RATE)
        pitches.append(int(np.abs(np.fft.rfft(samples)).argmax()))
    assert pitches == [300, 350, 400, 450, 500, 550]


@pytest.mark.parametrize(
    ("rate", "kind"), [(8000, "mpeg"), (22_050, "mpeg"), (48_000, "mpeg"), (9000, "wav"), (96_000, "wav")]
)
@pytest.mark.parametrize("size", [1, 1000, 30_000])
def test_sound_survives_the_trip_to_a_data_uri(rate, kind, size):
    samples = tone(400.0, rate=rate, seconds=5.0)[:size]
    back, back_rate, head = decoded(audio_data_uri(samples, rate))
    assert (back.size, back_rate, head) == (size, rate, f"data:audio/{kind}")
    if size > 1000:
        assert np.corrcoef(samples, back)[0, 1] > 0.99


def test_sound_without_an_mp3_encoder(monkeypatch):
    monkeypatch.setattr("pipeline.report.clips.MP3_RATES", ())
    assert decoded(audio_data_uri(tone(400.0), RATE))[2] == "data:audio/wav"


def test_values_that_would_end_the_encoder_do_not():
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 22_050).astype(np.float32)
    samples[5000:5400] = np.repeat([np.nan, np.inf, -np.inf, 1e30], 100)
    assert np.isfinite(decoded(audio_data_uri(samples, 22_050))[0]).all()


def test_player_escapes_its_label():
    (attrs,) = Page(audio_player(tone(400.0), RATE, '"><script>')).find_all("audio")
    assert attrs["aria-label"] == '"><script>'


def test_compression_keeps_the_spectrogram():
    features = FeatureConfig()
    samples = fix_length(synthesize_clip("bell_struck", np.random.default_rng(0)), features.num_samples)
    uri = audio_data_uri(samples, features.mel.sample_rate)
    error = spectrogram(decoded(uri)[0], features).astype(np.float32) - spectrogram(samples, features)
    assert np.abs(error).mean() < 1.0
    assert len(uri) < 60_000


def test_figures_are_told(tmp_path):
    parsed = Page(report(tmp_path, list("abc")))
    for words in (
        "87.1\u202f%",
        "of 30 drawn clips; of real ones 96.2\u202f%",
        "14.24",
        "untrained 263.1, real clips 4.45",
    ):
        assert words in parsed.text
    for words in (
        "0.83",
        "real clips 1.02",
        "77.1\u202f%",
        "real clips 95.5\u202f%",
        "0.93\u202f×",
        "4.12",
        "4.41",
    ):
        assert words in parsed.text
    assert "Most frequent: c taken for a (4)." in parsed.text
    assert "asked for" in parsed.text
    assert "heard as" in parsed.text
    assert "Not scored yet" not in parsed.text


def test_least_recognised_class_comes_first(tmp_path):
    table = Page(report(tmp_path, list("abc"))).text.partition("least recognised first")[2]
    assert "clipsc60.0\u202f%55.0\u202f%a10a100.0\u202f%90.0\u202f%–10" in table


@pytest.mark.parametrize(
    ("copies", "ratio", "held_out", "copied"),
    [
        (0, 1.4, 100, False),
        (1, 0.9, 100, False),
        (2, 0.9, 100, True),
        (4, 0.9, 20, False),
        (5, 0.9, 20, True),
        (0, 0.45, 100, True),
    ],
)
def test_whether_it_copies_is_said_in_words(tmp_path, copies, ratio, held_out, copied):
    figures = metrics(list("abc"))
    figures["nearest"] |= {"suspected_copies": copies, "ratio": ratio}
    figures["frechet"] |= {"held_out_clips": held_out}
    parsed = Page(report(tmp_path, list("abc"), metrics=figures))
    assert ("may be copying" in parsed.text) == ("This may be copying" in parsed.text) == copied
    assert (
        ("held-out real clip: no sign of copying" in parsed.text)
        == ("This shows no sign of copying" in parsed.text)
        == (not copied)
    )
    assert f"Of 30 drawn clips {copies} lie closer" in parsed.text


def test_neighbours_come_nearest_first(tmp_path):
    text = Page(report(tmp_path, list("abc"))).text.partition("closest first")[2]
    assert (
        0
        < text.index("c0.30\u202f×")
        < text.index("drawnnear")
        < text.index("a0.81\u202f×")
        < text.index("its <real>")
    )


def test_strip_shows_a_few_stages_and_a_real_clip(tmp_path):
    epochs = list(range(5, 105, 5))
    parsed = Page(report(tmp_path, list("ab"), stages=stages(epochs[::-1], 2)))
    pictures = [attrs["alt"] for attrs in parsed.find_all("img")]
    assert len(pictures) == 2 * (MAX_STAGES + 1)
    row = [int(alt.rpartition(" ")[2]) for alt in pictures[:MAX_STAGES]]
    assert row == sorted(row)
    assert {*row} <= {*epochs}
    assert (row[0], row[-1]) == (5, 100)
    assert np.ptp(np.diff(row)) <= 5
    assert pictures[MAX_STAGES] == "a, a real clip"
    assert pictures[MAX_STAGES + 1] == "b, epoch 5"


def test_colours_are_those_of_the_real_clips(tmp_path):
    loud = Sound("loud", np.full(SMALL_FEATURES.shape, 120.0), tone(440.0))
    quiet = ClassSounds("a", [Sound("quiet", np.full(SMALL_FEATURES.shape, -20.0), tone(440.0))], [loud])
    assert "from -100 dB, dark, to -20 dB, light" in report(tmp_path, ["a"], classes=[quiet], neighbours=[])
    assert "from 40 dB, dark, to 120 dB, light" in report(
        tmp_path, ["a"], classes=[replace(quiet, real=[])], neighbours=[]
    )


def test_unscored_run_says_how_it_is_scored(tmp_path):
    parsed = Page(report(tmp_path, list("abc"), metrics=None, neighbours=[]))
    assert "Not scored yet: melray evaluate --run RUN" in parsed.text
    assert "Keptepoch 10of 12" in "".join(parsed.text.split("\n"))
    assert "80.0\u202f%by the judge that chose the epoch" in parsed.text
    for absent in ("Copies?", "What the judge hears", "Coverage"):
        assert absent not in parsed.text


def test_judge_without_neighbours_and_neighbours_without_judge(tmp_path):
    scored = Page(report(tmp_path, list("abc"), neighbours=[])).text
    assert "no sign of copying: the judge" in scored
    bare = Page(report(tmp_path, list("abc"), metrics=None)).text
    assert "0.81\u202f×" in bare
    assert "sign of copying" not in bare


def test_parts_for_which_there_is_nothing_are_left_out(tmp_path):
    path = tmp_path / "deep" / "er" / "report.html"
    write_gan_report(
        path,
        title="t",
        summary={},
        metrics=None,
        history=[],
        classes=[],
        stages=[],
        neighbours=[],
        features=SMALL_FEATURES,
    )
    parsed = Page(path.read_text(encoding="utf-8"))
    assert "Not scored yet" in parsed.text
    assert "0 epochs in" in parsed.text
    assert [attrs["href"] for attrs in parsed.find_all("a")] == ["#part-0", "#part-1"]
    assert "Progress" not in Page(report(tmp_path, list("ab"), stages=[])).text


@pytest.mark.parametrize(("real", "drawn"), [(0, 1), (1, 0), (0, 0), (3, 5)])
@pytest.mark.parametrize("names", [["only"], ["a", "b"]])
def test_any_number_of_classes_and_clips(tmp_path, names, real, drawn):
    parsed = Page(report(tmp_path, names, classes=class_sounds(names, real, drawn), neighbours=[]))
    assert_accessible(parsed)
    assert len(parsed.find_all("audio")) == len(names) * (real + drawn)
    assert parsed.text.count("None.") == len(names) * ((real == 0) + (drawn == 0))


def test_figures_of_few_epochs_are_joined_to_a_line(tmp_path):
    parsed = Page(report(tmp_path, list("ab"), history=history(20)))
    labels = [attrs["aria-label"] for attrs in parsed.find_all("svg") if attrs.get("aria-label")]
    assert "Fréchet distance. Fréchet distance: 20 at epoch 5, 5 at epoch 20." in labels
    assert "Class accuracy. class accuracy: 80\u202f% at epoch 5, 80\u202f% at epoch 20." in labels
    assert [
        attrs["d"]
        for attrs in parsed.find_all("path")
        if attrs.get("class") == "line" and attrs["d"].count("L") == 3
    ]
    assert "20 epochs in 1 min 0 s; the dashed upright line marks the one kept, epoch 10." in parsed.text


def test_run_without_a_judge(tmp_path):
    parsed = Page(report(tmp_path, list("ab"), history=history(4), metrics=None))
    assert "Fréchet distance:" not in str(parsed.tags)
    assert "Losses" in parsed.text
    assert "judge that chooses" not in parsed.text
    assert "last good checkpoint" not in parsed.text


def test_ten_classes_take_less_than_six_megabytes(tmp_path):
    features = FeatureConfig()
    # Noise throughout is what can be compressed least.
    samples = np.float32(0.1) * np.random.default_rng(0).standard_normal(features.num_samples).astype(
        np.float32
    )
    one = Sound("noise", spectrogram(samples, features), samples)
    shown = [EpochSnapshot(epoch, one.mel[None]) for epoch in range(MAX_STAGES)]
    clips = [ClassSounds("noise", [one] * 2, [one] * 4)]
    text = report(tmp_path, ["noise"], classes=clips, stages=shown, neighbours=[], features=features)
    assert 10 * len(text) < 6_000_000

"""Report of a GAN: self-contained, escaped, complete with missing inputs, with the audio of its clips."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.gan.report import (
    MAX_SNAPSHOTS,
    AudioClip,
    ClassClips,
    EpochSnapshot,
    NearestPair,
    memorization_result,
    write_gan_report,
)
from tests.helpers.confusion import confusion_of
from tests.helpers.html_page import EVIL_NAMES, Page, assert_accessible, parse_checked
from tests.helpers.sounds import RATE, SMALL_FEATURES, tone

SECTIONS = [
    "Real vs. generated, by class",
    "Training progress",
    "Class accuracy",
    "Memorization check",
    "Training curves",
    "Settings",
]


def make_clip(name: str, hertz: float = 440.0) -> AudioClip:
    samples = tone(hertz)
    return AudioClip(name, spectrogram(samples, SMALL_FEATURES), samples)


def make_classes(names: list[str], num_real: int = 1, num_generated: int = 2) -> list[ClassClips]:
    return [
        ClassClips(
            name,
            [make_clip(f"<clip> {name} {i}") for i in range(num_real)],
            [make_clip(f"seed {i}") for i in range(num_generated)],
        )
        for name in names
    ]


def make_snapshots(epochs: list[int], classes: int) -> list[EpochSnapshot]:
    return [
        EpochSnapshot(epoch, np.random.default_rng(epoch).normal(-40, 12, (classes, *SMALL_FEATURES.shape)))
        for epoch in epochs
    ]


def make_history(epochs: int, eval_interval: int = 5) -> list[dict[str, Any]]:
    history = []
    for epoch in range(1, epochs + 1):
        entry = {
            "epoch": epoch,
            "discriminator_loss": 0.6,
            "generator_loss": 1 / epoch,
            "real_score": 1.0,
            "fake_score": -0.5,
            "diversity": 0.7,
            "augment_p": 0.1,
            "learning_rate": 1e-3,
            "seconds": 3.0,
            "best": False,
        }
        if epoch % eval_interval == 0:
            entry |= {"class_accuracy": 0.8, "frechet": 100 / epoch, "best": epoch <= 10}
        history.append(entry)
    return history


def make_metrics(names: list[str]) -> dict[str, Any]:
    """Return metrics of 10 clips per class, 4 of the last class predicted as the first."""
    count = len(names)
    confusion = 10 * np.eye(count, dtype=int)
    confusion[-1, -1] -= 4
    confusion[-1, 0] += 4
    entries: list[dict[str, Any]] = [
        {"name": name, "clips": 10, "class_accuracy": 1.0, "confidence": 0.9, "most_confused_with": None}
        for name in names
    ]
    entries[-1] |= {"class_accuracy": 0.6, "confidence": 0.55, "most_confused_with": names[0]}
    return {
        "clips": 10 * count,
        "per_class": entries,
        "class_accuracy": 0.871,
        "real_class_accuracy": 0.962,
        "frechet": {"generated": 14.237, "untrained": 263.11, "real": 4.452, "held_out_clips": 100},
        "density": 0.834,
        "coverage": 0.771,
        "real_density": 1.02,
        "real_coverage": 0.955,
        "left_out_classes": [],
        "nearest": {"generated": 4.12, "held_out": 4.41, "ratio": 0.934, "suspected_copies": 0},
        "confusion": confusion.tolist(),
    }


def write(folder: Path, names: list[str], **changes: Any) -> str:
    """Write a report and return its text."""
    path = folder / "report.html"
    values: dict[str, Any] = {
        "title": "A <test> & more",
        "summary": {"data": "<here>"},
        "metrics": make_metrics(names),
        "confusion": confusion_of(make_metrics(names)["confusion"]),
        "history": make_history(12),
        "classes": make_classes(names),
        "snapshots": make_snapshots([5, 10], len(names)),
        "pairs": [
            NearestPair(names[0], make_clip("far"), make_clip("its <real>"), 0.812),
            NearestPair(names[-1], make_clip("near"), make_clip("r"), 0.3),
        ],
        "features": SMALL_FEATURES,
        "settings": {"loss": "<hinge>"},
    }
    write_gan_report(path, **(values | changes))
    return path.read_text(encoding="utf-8")


def write_empty(folder: Path, history: list[dict[str, Any]]) -> Page:
    """Write a report of nothing but a history."""
    path = folder / "deep" / "er" / "report.html"
    write_gan_report(
        path,
        title="t",
        summary={},
        metrics=None,
        confusion=None,
        history=history,
        classes=[],
        snapshots=[],
        pairs=[],
        features=SMALL_FEATURES,
    )
    return Page(path.read_text(encoding="utf-8"))


def decode_audio(uri: str | None) -> tuple[np.ndarray, int, str]:
    """Return samples, sample rate and MIME type."""
    header, _, text = (uri or "").partition(";base64,")
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(text)), dtype="float32")
    return samples, rate, header.removeprefix("data:")


def test_page_is_self_contained_and_accessible(tmp_path):
    text = write(tmp_path, list("abc"))
    page = parse_checked(text)
    assert page.sections == SECTIONS
    assert {attrs["aria-label"] for attrs in page.find_all("audio")} >= {
        "Audio of real a: <clip> a 0",
        "Audio of generated c: seed 1",
    }
    assert all(attrs["preload"] == "none" for attrs in page.find_all("audio"))
    assert os.listdir(tmp_path) == ["report.html"]


def test_names_and_paths_are_escaped(tmp_path):
    names = list(EVIL_NAMES)
    collapse = {"epoch": 13, "collapse": "epoch 13 collapsed: <i x>"}
    text = write(tmp_path, names, history=[*make_history(12), collapse])
    page = parse_checked(text)
    assert not [attrs for attrs in page.find_all("b") + page.find_all("i") if "x" in attrs]
    expected = [
        "A <test> & more",
        "<here>",
        "<hinge>",
        "<clip> 犬 été 0",
        "its <real>",
        "Epoch 13 collapsed: <i x>.",
    ]
    assert not [text for text in expected if text not in page.text]
    # Class heading, names of clips, progress table and metrics by class.
    assert all(page.text.count(name) >= 4 for name in [*names[:-1], "caf\\udce9"])
    # JSON keeps the surrogate, in an escape of its own.
    assert names[-1] in page.chart("Confusion matrix")["layout"]["xaxis"]["ticktext"]


def test_players_have_the_audio_of_their_clips(tmp_path):
    classes = [
        ClassClips(name, [make_clip("r", 300.0 + 100 * i)], [make_clip("g", 350.0 + 100 * i)])
        for i, name in enumerate("abc")
    ]
    players = Page(write(tmp_path, list("abc"), classes=classes)).find_all("audio")
    assert len(players) == 6 + 4
    frequencies = []
    for attrs in players[:6]:
        samples, rate, _ = decode_audio(attrs["src"])
        assert (samples.size, rate) == (SMALL_FEATURES.num_samples, RATE)
        frequencies.append(int(np.abs(np.fft.rfft(samples)).argmax()))
    assert frequencies == [300, 350, 400, 450, 500, 550]


def test_players_work_without_an_mp3_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.report.clips.MP3_RATES", ())
    players = Page(write(tmp_path, ["a"])).find_all("audio")
    assert {decode_audio(attrs["src"])[2] for attrs in players} == {"audio/wav"}


def test_cards_show_the_metrics(tmp_path):
    words = Page(write(tmp_path, list("abc"))).words
    for text in (
        "Class accuracy87.1 %30 generated clips; real clips 96.2 % (upper bound)",
        "Fréchet distance14.24lower is better; untrained 263.1, real clips 4.45",
        "Density0.83fidelity; real clips 1.02",
        "Coverage77.1 %diversity; real clips 95.5 %",
        "Nearest training clip0.93 ×relative nearest-neighbor distance: no sign of memorization",
    ):
        assert text in words
    assert "Not evaluated yet" not in words


def test_confusion_matrix_shows_requested_and_predicted_classes(tmp_path):
    page = Page(write(tmp_path, list("abc")))
    chart = page.chart("Confusion matrix")
    counts = chart["data"][-1]
    cells = dict(zip(zip(counts["y"], counts["x"], strict=True), counts["text"], strict=True))
    assert cells == {(0, 0): "10", (1, 1): "10", (2, 0): "4", (2, 2): "6"}
    assert chart["layout"]["yaxis"]["title"]["text"] == "← requested class"
    assert chart["layout"]["xaxis"]["title"]["text"] == "predicted class →"
    assert "Most frequent: c → a (4)." in page.words


def test_classes_with_low_accuracy_come_first(tmp_path):
    table = Page(write(tmp_path, list("abc"))).tables[1]
    assert [[" ".join(cell.split()) for cell in row] for row in table] == [
        ["class", "class accuracy", "confidence", "most often confused with", "clips"],
        ["c", "60.0 %", "55.0 %", "a", "10"],
        ["a", "100.0 %", "90.0 %", "–", "10"],
        ["b", "100.0 %", "90.0 %", "–", "10"],
    ]


@pytest.mark.parametrize(
    ("copies", "ratio", "held_out", "result"),
    [
        (0, 1.4, 100, "no sign of memorization"),
        (1, 0.9, 100, "no sign of memorization"),
        (2, 0.9, 100, "possible memorization"),
        (4, 0.9, 20, "no sign of memorization"),
        (5, 0.9, 20, "possible memorization"),
        (0, 0.45, 100, "possible memorization"),
        (0, 1.4, 7, "no sign of memorization"),
        (0, 1.4, 6, "too few held-out clips to exclude memorization"),
        (30, 1.4, 3, "too few held-out clips to exclude memorization"),
        (0, 0.45, 3, "possible memorization"),
    ],
)
def test_memorization_is_suspected_beyond_the_limits(copies, ratio, held_out, result):
    metrics = make_metrics(list("abc"))
    metrics["nearest"] |= {"suspected_copies": copies, "ratio": ratio}
    metrics["frechet"] |= {"held_out_clips": held_out}
    assert memorization_result(metrics) == result


def test_memorization_is_not_excluded_in_clips_that_were_not_searched():
    metrics = make_metrics(list("abc"))
    metrics["nearest"] |= {"suspected_copies": 0, "ratio": 1.4, "searched_clips": 2000}
    metrics["frechet"] |= {"held_out_clips": 100}
    for total, result in ((2000, ""), (50_000, " of 2,000 of 50,000 training clips")):
        metrics["nearest"] |= {"training_clips": total}
        assert memorization_result(metrics) == f"no sign of memorization{result}"


@pytest.mark.parametrize("copies", [0, 2])
def test_memorization_check_states_its_result(copies, tmp_path):
    metrics = make_metrics(list("abc"))
    metrics["nearest"] |= {"suspected_copies": copies}
    words = Page(write(tmp_path, list("abc"), metrics=metrics)).words
    card, section = (
        ("possible memorization", "Possible memorization")
        if copies
        else ("no sign of", "No sign of memorization")
    )
    assert f"relative nearest-neighbor distance: {card}" in words
    assert f"{section}: the mean distance to the nearest training clip is 4.12 for generated" in words
    assert "4.41 for held-out real clips" in words
    assert (
        f"{copies} of 30 generated clips are closer to a training clip than 99 % of the 100 held-out" in words
    )


def test_nearest_pairs_are_sorted_by_distance(tmp_path):
    text = Page(write(tmp_path, list("abc"))).words.partition("nearest first")[2]
    positions = [text.index(part) for part in ("c0.30 ×", "generatednear", "a0.81 ×", "its <real>")]
    assert positions == sorted(positions)


def test_progress_table_shows_spaced_epochs_and_a_real_clip(tmp_path):
    epochs = list(range(5, 105, 5))
    page = Page(write(tmp_path, list("ab"), snapshots=make_snapshots(epochs[::-1], 2)))
    header = page.tables[0][0]
    shown = [int(text.removeprefix("epoch ")) for text in header[1:-1]]
    assert header[0] == "class" and header[-1] == "real"
    assert len(shown) == MAX_SNAPSHOTS and shown == sorted(shown) and {*shown} <= {*epochs}
    assert (shown[0], shown[-1]) == (5, 100)
    assert np.ptp(np.diff(shown)) <= 5
    alts = [attrs["alt"] for attrs in page.find_all("img")]
    for name in "ab":
        start = alts.index(f"{name}, epoch 5")
        assert alts[start : start + MAX_SNAPSHOTS + 1] == [
            *(f"{name}, epoch {epoch}" for epoch in shown),
            f"{name}, real clip",
        ]


def test_color_scale_is_that_of_real_clips(tmp_path):
    loud = AudioClip("loud", np.full(SMALL_FEATURES.shape, 120.0), tone(440.0))
    quiet = AudioClip("quiet", np.full(SMALL_FEATURES.shape, -20.0), tone(440.0))
    entry = ClassClips("a", [quiet], [loud])
    with_real = write(tmp_path, ["a"], classes=[entry], pairs=[])
    assert "Colors from -100 dB (dark) to -20 dB (light)" in with_real
    without_real = write(tmp_path, ["a"], classes=[replace(entry, real=[])], pairs=[])
    assert "Colors from 40 dB (dark) to 120 dB (light)" in without_real


def test_page_before_evaluation_names_the_command(tmp_path):
    page = Page(write(tmp_path, list("abc"), metrics=None, pairs=[]))
    for text in (
        "Not evaluated yet: melray evaluate --run RUN",
        "Selected epoch10of 12",
        "Class accuracy80.0 %by the selection classifier",
        "Fréchet distance10by the selection classifier; lower is better",
    ):
        assert text in page.words
    assert page.sections == [SECTIONS[0], SECTIONS[1], *SECTIONS[4:]]
    assert "Coverage" not in page.words


def test_memorization_check_needs_metrics_or_pairs_only(tmp_path):
    with_metrics = Page(write(tmp_path, list("abc"), pairs=[])).words
    assert "No sign of memorization: the mean distance" in with_metrics
    with_pairs = Page(write(tmp_path, list("abc"), metrics=None)).words
    assert "0.81 ×" in with_pairs
    assert "sign of memorization" not in with_pairs


def test_sections_without_content_are_omitted(tmp_path):
    page = write_empty(tmp_path, [])
    assert page.sections == SECTIONS[4:]
    assert not page.charts
    assert "Not evaluated yet" in page.text
    assert "0 epochs in" in page.text
    assert "Training progress" not in Page(write(tmp_path, list("ab"), snapshots=[])).sections


@pytest.mark.parametrize(("num_real", "num_generated"), [(0, 1), (1, 0), (0, 0), (3, 5)])
@pytest.mark.parametrize("names", [["only"], ["a", "b"]])
def test_any_number_of_classes_and_clips(tmp_path, names, num_real, num_generated):
    classes = make_classes(names, num_real, num_generated)
    page = Page(write(tmp_path, names, classes=classes, pairs=[]))
    assert_accessible(page)
    assert len(page.find_all("audio")) == len(names) * (num_real + num_generated)
    assert page.text.count("None.") == len(names) * ((num_real == 0) + (num_generated == 0))


def test_curves_show_the_history(tmp_path):
    page = Page(write(tmp_path, list("ab"), history=make_history(20)))
    curves = page.charts[1:]
    assert [chart["title"] for chart in curves] == [
        "Losses",
        "Discriminator scores",
        "Fréchet distance",
        "Class accuracy",
        "Diversity and augmentation",
        "Learning rate",
    ]
    for chart in curves:
        assert [shape["x0"] for shape in chart["layout"]["shapes"]] == [10]
    (frechet,) = page.chart("Fréchet distance")["data"]
    assert (frechet["x"], frechet["y"]) == ([5, 10, 15, 20], [20, 10, 100 / 15, 5])
    values = {trace["name"]: trace["y"] for chart in curves for trace in chart["data"]}
    assert values["generator"] == [1 / epoch for epoch in range(1, 21)]
    assert values["discriminator"] == [0.6] * 20
    assert values["real clips"] == [1.0] * 20 and values["generated clips"] == [-0.5] * 20
    assert values["class accuracy"] == [0.8] * 4
    assert values["diversity"] == [0.7] * 20 and values["augmentation probability"] == [0.1] * 20
    assert "20 epochs in 1 min 0 s; dashed vertical line: selected epoch, 10." in page.words
    assert "by the selection classifier, not by the one of the evaluation" in page.words


def test_run_without_selection_classifier_has_no_frechet(tmp_path):
    page = Page(write(tmp_path, list("ab"), history=make_history(4), metrics=None))
    titles = [chart["title"] for chart in page.charts]
    assert "Losses" in titles and "Fréchet distance" not in titles and "Class accuracy" not in titles
    assert "selection classifier" not in page.words
    assert "last good checkpoint" not in page.words


def test_missing_metrics_of_the_selected_epoch_are_omitted(tmp_path):
    history = [make_history(1)[0] | {"best": True, "frechet": None}]
    page = write_empty(tmp_path, history)
    assert "Selected epoch1of 1" in page.words
    assert "Fréchet distance" not in page.words


def test_collapses_are_listed(tmp_path):
    history = [
        *make_history(2),
        {"epoch": 3, "collapse": "diversity fell to 3 %"},
        {"epoch": 4, "collapse": "loss is not finite"},
    ]
    page = write_empty(tmp_path, history)
    assert (
        "training rolled back to the last good checkpoint and resumed at half the learning rate. "
        "Diversity fell to 3 %. Loss is not finite."
    ) in page.words


def test_ten_classes_take_less_than_six_megabytes(tmp_path):
    features = FeatureConfig()
    # Noise is the hardest to compress.
    noise = np.float32(0.1) * np.random.default_rng(0).standard_normal(features.num_samples, np.float32)
    clip = AudioClip("noise", spectrogram(noise, features), noise)
    snapshots = [EpochSnapshot(epoch, clip.mel[None]) for epoch in range(MAX_SNAPSHOTS)]
    classes = [ClassClips("noise", [clip] * 2, [clip] * 4)]
    text = write(tmp_path, ["noise"], classes=classes, snapshots=snapshots, pairs=[], features=features)
    assert 10 * (len(text) - sum(map(len, Page(text).scripts))) < 6_000_000


def undefined_metrics(names: list[str]) -> dict[str, Any]:
    """Return the metrics of a dataset without variety."""
    metrics = make_metrics(names)
    undefined = dict.fromkeys(("density", "coverage", "real_density", "real_coverage"))
    return (
        metrics
        | undefined
        | {
            "left_out_classes": names,
            "frechet": dict.fromkeys(("generated", "untrained", "real")) | {"held_out_clips": 0},
            "nearest": dict.fromkeys(("generated", "held_out", "ratio", "suspected_copies")),
        }
    )


def test_undefined_metrics_are_explained(tmp_path: Path) -> None:
    names = ["silence", "copies"]
    pairs = [NearestPair("copies", make_clip("a"), make_clip("b"), None)]
    text = write(tmp_path, names, metrics=undefined_metrics(names), pairs=pairs)
    parse_checked(text)
    assert "None" not in text.split("<script")[0].split("All resolved settings")[0]
    assert text.count("n/a") >= 6 and "relative nearest-neighbor distance: undefined" in text
    assert "are left out of all metrics except class accuracy: &#39;silence&#39;, &#39;copies&#39;." in text
    assert "No class is left, so the other metrics are undefined (n/a)." in text
    assert "Not defined: no class has held-out clips that differ" in text
    assert memorization_result(undefined_metrics(names)) == "undefined"


def test_undefined_diversity_has_no_curve(tmp_path: Path) -> None:
    history = [entry | {"diversity": None} for entry in make_history(3)]
    text = write(tmp_path, ["a", "b"], history=history)
    assert "augmentation probability" in text and "diversity: " not in text


def test_report_of_many_classes_shows_the_worst(tmp_path: Path) -> None:
    names = [f"class {i:03d}" for i in range(200)]
    text = write(tmp_path, names, classes=make_classes(names[:2]), snapshots=[], pairs=[])
    page = parse_checked(text)
    (pairs, classes, *_) = page.tables
    assert pairs[1][:3] == ["class 199", "class 000", "4"] and len(pairs) == 2
    assert classes[1][0] == "class 199" and len(classes) == 1 + 100
    for note in (
        "Matrix: 2 of 200 classes, those most often confused; confusion.csv has all.",
        "Table: 100 of 200 classes, those with the lowest class accuracy; evaluation.json has all.",
    ):
        assert note in page.words

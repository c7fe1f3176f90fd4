"""Text of images: no boxes in any script, no warnings of matplotlib, one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from pipeline.audio.mel import MelConfig
from pipeline.report import figures, fonts
from pipeline.report.figures import spectrogram_grid_png, spectrogram_png
from pipeline.report.fonts import MAX_LENGTH, readable_texts, single_line, transliterate

NAMES = [
    "狗",
    "かえる",
    "개",
    "ضفدع",
    "สุนัข",
    "हिन्दी",
    "🐕‍🦺",
    "\u202eevil",
    "a\nb",
    "\x00\x1b[31m",
    "",
    "\udcff",
    "\ue000",
    "$a_b$",
    "x" * 300,
    "狗" * 300,
]


@pytest.fixture
def no_installed_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_installed_fonts", list)
    fonts._find_fonts.cache_clear()
    fonts._log_missing.cache_clear()


@pytest.mark.usefixtures("no_installed_fonts")
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_readable_without_warnings(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    mels = np.random.default_rng(0).normal(-40, 10, (1, 1, 8, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spectrogram_grid_png(mels, [name], MelConfig(n_mels=8), (-80.0, 0.0), f"{name} epoch 1")
        spectrogram_png(mels[0, 0], MelConfig(n_mels=8), name)
    assert "missing from" not in capfd.readouterr().err
    (text,), _ = readable_texts([name])
    assert len(text) <= MAX_LENGTH and "\n" not in text and (text or not name)


@pytest.mark.usefixtures("no_installed_fonts")
def test_characters_without_font_are_transliterated(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="melray"):
        texts, _ = readable_texts(["dog 狗 (süß)", "สุนัข", "🐕", "כלב", "dog 狗 (süß)"])
        readable_texts(["dog 狗 (süß)", "สุนัข", "🐕", "כלב", "dog 狗 (süß)"])
    assert texts == ["dog Gou (süß)", "sunakh", ":dog2:", "כלב", "dog Gou (süß)"]
    assert caplog.text.count("no installed font has") == 1 and "狗" in caplog.text


def test_installed_font_that_has_characters_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Symbols that matplotlib's default font lacks are in the STIX font that it ships."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "STIXGeneral.ttf"
    symbol = min(fonts._characters(str(path)) - fonts._characters(fonts._default_path()))
    monkeypatch.setattr(fonts, "_installed_fonts", lambda: ["/missing.ttf", __file__, str(path)])
    fonts._find_fonts.cache_clear()
    (text,), properties = readable_texts([symbol + "狗"])
    assert text == symbol + "Gou"
    assert properties.get_family() == ["DejaVu Sans", "STIXGeneral"]


def test_names_of_latin_letters_search_no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[str]:
        raise AssertionError("fonts were searched")

    monkeypatch.setattr(fonts, "_installed_fonts", fail)
    assert readable_texts(["Hündin", "ёж", "ضفدع"])[0] == ["Hündin", "ёж", "ضفدع"]


def test_single_line_keeps_visible_characters() -> None:
    assert single_line(" a\r\n\tb\u200b\u202e ") == "a b"
    assert single_line("\ud800") == "\\ud800"


def test_transliteration_of_unknown_character_is_code_point() -> None:
    assert transliterate("\U00012000").startswith("[U+") or transliterate("\U00012000").isascii()


def test_grid_of_many_classes_shows_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images have at most 65,535 pixels: 700 classes would need more."""
    monkeypatch.setattr(figures, "MAX_ROWS", 3)
    mels, names = np.zeros((700, 1, 4, 5)), [f"class {i}" for i in range(700)]
    image = spectrogram_grid_png(mels, names, MelConfig(n_mels=4), (-80.0, 0.0), "epoch 5")
    shown = [0, 350, 699]
    few = spectrogram_grid_png(
        mels[shown],
        [names[i] for i in shown],
        MelConfig(n_mels=4),
        (-80.0, 0.0),
        "epoch 5 (3 of 700 classes)",
    )
    assert image == few

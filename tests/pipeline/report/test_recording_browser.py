"""Page of a recording in a real browser: it plays, seeks, zooms and shows any name, without errors."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.report.audio_parts import AudioPart
from pipeline.report.ogg_audio import OggEncoder
from pipeline.report.recording import Span
from pipeline.report.recording_media import RecordingMedia
from pipeline.report.tiles import SpectrogramColumns
from tests.helpers.browser import EXECUTABLE, open_browser
from tests.helpers.html_page import EVIL_NAMES
from tests.helpers.sounds import RATE, tone
from tests.pipeline.report.recording_pages import make_page, make_scores, write
from tests.pipeline.report.test_tiles import CONFIG

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="needs Chromium")
# Each `check` adds a result. Synthetic pointers cannot be captured.
BEFORE = """
Element.prototype.setPointerCapture = () => {};
const results = {};
const check = (name, value) => (results[name] = value);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
(async () => {
"""
AFTER = """
})().catch((error) => check("error", String(error))).finally(() => {
  const element = document.createElement("pre");
  element.className = "results";
  element.textContent = JSON.stringify(results);
  document.body.append(element);
});
"""
# Steps of a visitor.
STEPS = """
const pointer = (type, x, y) => {
  const box = timeline.getBoundingClientRect();
  const values = { clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true };
  timeline.dispatchEvent(new PointerEvent(type, values));
};
  for (let i = 0; i < 100 && player.readyState < 1; i++) await wait(50);
  check("duration", player.duration);
  document.querySelectorAll("[data-event]")[1].click();
  check("event", [player.currentTime, view.selected]);
  player.pause();
  for (let i = 0; i < 3; i++) document.querySelector("[data-action=zoom-in]").click();
  check("zoomed", [view.axis.start, view.axis.end]);
  press("ArrowRight");
  check("key", player.currentTime > 12);
  pointer("pointerdown", 300, 100);
  pointer("pointerup", 300, 100);
  check("clicked", player.currentTime - view.time(300));
  const before = view.axis.start;
  pointer("pointerdown", 300, 100);
  pointer("pointermove", 200, 100);
  pointer("pointerup", 200, 100);
  check("dragged", view.axis.start > before);
  press("0");
  check("fit", [view.axis.start, view.axis.end]);
  document.querySelector(".legend button").click();
  check("hidden", view.hidden.size);
  press("n");
  await wait(500);
  view.draw();
  const image = view.canvas.getContext("2d").getImageData(0, 0, view.canvas.width, view.canvas.height).data;
  check("colors", new Set(image).size);
  check("sideways", document.documentElement.scrollWidth - innerWidth);
  check("legend", [...document.querySelectorAll(".legend button")].map((button) => button.textContent));
  check("bold", document.querySelectorAll("b[x]").length);
"""
# Of a visitor to whom the page was sent without the file that it refers to.
STEPS_WITHOUT_FILE = """
  for (let i = 0; i < 100 && !audio.usesParts; i++) await wait(50);
  for (const [number, time] of [5.5, 12.25].entries()) {
    seek(time);
    for (let i = 0; i < 100 && player.readyState < 1; i++) await wait(50);
    await wait(200);
    check(`part ${number}`, [player.currentTime, now()]);
  }
  document.querySelectorAll("[data-event]")[0].click();
  check("plays", [player.paused, audio.current, now()]);
  player.pause();
  seek(25);
  showPosition();
  check("nothing", [now(), player.readyState, readout.textContent.endsWith("no audio here")]);
  press(" ");
  check("silent", player.paused);
"""


def run_page(page: Path, width: int, steps: str = STEPS) -> tuple[dict[str, Any], list[str]]:
    """Open a page in headless Chromium and take steps; return their results, and what it logs."""
    text = page.read_text(encoding="utf-8")
    # The policy of the page would not run the script of the test.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page.write_text(
        text.replace("</body>", f"<script>{BEFORE}{steps}{AFTER}</script></body>"), encoding="utf-8"
    )
    with open_browser(page.parent / "profile") as browser:
        browser.resize(width)
        browser.navigate(page.as_uri())
        browser.wait("document.querySelector('pre.results')")
        results = json.loads(browser.evaluate("document.querySelector('pre.results').textContent"))
        return results, browser.messages


@pytest.mark.parametrize("width", [1280, 500])
def test_page_works_in_browser(width: int, tmp_path: Path) -> None:
    names = (*EVIL_NAMES[:4], "dog")
    events = [Span(3.0, 6.0, names[0], 0.9), Span(12.0, 15.0, names[3], 0.7), Span(20.0, 25.0, "dog", 0.8)]
    write(tmp_path, scores=make_scores(names), events=events, annotations=[Span(12.5, 14.0, "dog")])
    results, messages = run_page(tmp_path / "show.html", width)
    assert "error" not in results and not messages, (results, messages)
    assert results["duration"] == pytest.approx(30, abs=0.1)
    assert results["event"] == [12, 1]
    start, end = results["zoomed"]
    assert start < 12 < end and end - start == pytest.approx(30 / 1.6**3)
    assert results["key"] and results["dragged"] and abs(results["clicked"]) < 0.1
    assert results["fit"] == [0, 30] and results["hidden"] == 1
    assert results["colors"] > 30
    assert results["sideways"] <= 0
    assert sorted(results["legend"]) == sorted(names) and results["bold"] == 0


def test_parts_play_where_the_file_is_gone(tmp_path: Path) -> None:
    parts = []
    for start, end in [(2.0, 7.0), (11.0, 21.0)]:
        encoder = OggEncoder(RATE, 10**6)
        encoder.write(tone(500, end - start))
        parts.append(AudioPart(start, end, encoder.data_uri() or ""))
    media = dataclasses.replace(make_page().media, audio=None)
    write(tmp_path, media=media, audio_link="gone.flac", audio_parts=parts)
    results, _ = run_page(tmp_path / "show.html", 1280, STEPS_WITHOUT_FILE)
    assert "error" not in results, results["error"]
    assert results["part 0"] == pytest.approx([3.5, 5.5], abs=0.05)
    assert results["part 1"] == pytest.approx([1.25, 12.25], abs=0.05)
    assert results["plays"] == [False, 0, 3]
    assert results["nothing"] == [25, 0, True] and results["silent"]


# Of a visitor to a page of twelve hours.
STEPS_OF_LONG_PAGE = """
  document.querySelectorAll("[data-event]")[100].click();
  player.pause();
  check("selected", [now(), view.selected]);
  for (let i = 0; i < 12; i++) document.querySelector("[data-action=zoom-in]").click();
  check("zoomed", [view.axis.start, view.axis.end]);
  for (let i = 0; i < 100 && player.readyState < 1; i++) await wait(50);
  await wait(500);
  view.draw();
  const image = view.canvas.getContext("2d").getImageData(0, 0, view.canvas.width, view.canvas.height).data;
  check("colors", new Set(image).size);
"""


def test_page_of_twelve_hours_works(tmp_path: Path) -> None:
    """With a spectrogram of noise, which cannot be compressed, 2,000 events, and audio of some."""
    seconds, rng = 12 * 3600.0, np.random.default_rng(0)
    columns = SpectrogramColumns(CONFIG, round(seconds * RATE))
    columns.columns[:] = rng.uniform(-80, 0, columns.columns.shape)
    scores = dataclasses.replace(make_scores(windows=round(seconds / 2.5) - 1), window=5.0, hop=2.5)
    events = [Span(20.0 * number, 20.0 * number + 7.5, "dog", 0.9) for number in range(2000)]
    encoder = OggEncoder(RATE, 10**6)
    encoder.write(tone(500, 10.0))
    uri = encoder.data_uri() or ""
    parts = [AudioPart(event.start, event.start + 10.0, uri) for event in events[100:300]]
    media = RecordingMedia(columns, None, [])
    page = {"seconds": seconds, "media": media, "scores": scores, "events": events, "audio_parts": parts}
    write(tmp_path, **page, audio_link="gone.flac")
    assert (tmp_path / "show.html").stat().st_size < 40e6
    results, _ = run_page(tmp_path / "show.html", 1280, STEPS_OF_LONG_PAGE)
    assert "error" not in results, results["error"]
    assert results["selected"][1] == 100
    start, end = results["zoomed"]
    assert start < 2000 < end < start + 1000
    assert results["colors"] > 30

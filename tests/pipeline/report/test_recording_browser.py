"""Page of a recording in a real browser: it plays, seeks, zooms and shows any name, without errors."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.audio_parts import AudioPart
from pipeline.report.ogg_audio import OggEncoder
from pipeline.report.recording import Span
from tests.helpers.html_page import EVIL_NAMES
from tests.helpers.sounds import RATE, tone
from tests.pipeline.report.recording_pages import make_page, make_scores, write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
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
    check(`part ${number}`, [player.duration, player.currentTime, now()]);
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


def run_page(page: Path, width: int, steps: str = STEPS) -> tuple[dict[str, Any], str]:
    """Open a page in headless Chromium and take steps; return their results, and what it logs."""
    text = page.read_text(encoding="utf-8")
    # The policy of the page would not run the script of the test.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page.write_text(
        text.replace("</body>", f"<script>{BEFORE}{steps}{AFTER}</script></body>"), encoding="utf-8"
    )
    command = [str(BROWSER), "--headless", "--no-sandbox", "--dump-dom", "--enable-logging=stderr"]
    command += [
        "--autoplay-policy=no-user-gesture-required",
        "--virtual-time-budget=20000",
        f"--window-size={width},900",
        f"--user-data-dir={page.parent}/profile",
    ]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    match = re.search(r'<pre class="results">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match is not None, done.stderr
    return json.loads(html.unescape(match[1])), done.stderr


@pytest.mark.parametrize("width", [1280, 500])  # the narrowest window of headless Chromium
def test_page_works_in_browser(width: int, tmp_path: Path) -> None:
    names = (*EVIL_NAMES[:4], "dog")
    events = [Span(3.0, 6.0, names[0], 0.9), Span(12.0, 15.0, names[3], 0.7), Span(20.0, 25.0, "dog", 0.8)]
    write(tmp_path, scores=make_scores(names), events=events, annotations=[Span(12.5, 14.0, "dog")])
    results, log = run_page(tmp_path / "show.html", width)
    assert "error" not in results and "CONSOLE" not in log, (results, log)
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
    assert results["part 0"] == pytest.approx([5.0, 3.5, 5.5], abs=0.05)
    assert results["part 1"] == pytest.approx([10.0, 1.25, 12.25], abs=0.05)
    assert results["plays"] == [False, 0, 3]
    assert results["nothing"] == [25, 0, True] and results["silent"]

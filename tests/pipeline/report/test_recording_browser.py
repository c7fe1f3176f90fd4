"""Page of a recording in a real browser: it plays, seeks, zooms and shows any name, without errors."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pipeline.report.recording import Span
from tests.helpers.html_page import EVIL_NAMES
from tests.pipeline.report.recording_pages import make_scores, write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
# Steps of a visitor; each `check` adds a result. Synthetic pointers cannot be captured.
STEPS = """
Element.prototype.setPointerCapture = () => {};
const results = {};
const check = (name, value) => (results[name] = value);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const pointer = (type, x, y) => {
  const box = timeline.getBoundingClientRect();
  const values = { clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true };
  timeline.dispatchEvent(new PointerEvent(type, values));
};
(async () => {
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
})().catch((error) => check("error", String(error))).finally(() => {
  const element = document.createElement("pre");
  element.className = "results";
  element.textContent = JSON.stringify(results);
  document.body.append(element);
});
"""


def run_page(page: Path, width: int) -> tuple[dict[str, Any], str]:
    """Open a page in headless Chromium and take `STEPS`; return their results, and what it logs."""
    text = page.read_text(encoding="utf-8")
    # The policy of the page would not run the script of the test.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    page.write_text(text.replace("</body>", f"<script>{STEPS}</script></body>"), encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--dump-dom", "--enable-logging=stderr"]
    command += [
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

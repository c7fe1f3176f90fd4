"""The server's page in a browser: it classifies, records, generates and compares sounds, without errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("websockets")

from pipeline.audio.features import spectrogram
from tests.helpers.browser import EXECUTABLE, SHIFT, Browser, open_browser
from tests.helpers.contrast import LOW_CONTRAST
from tests.helpers.saved_classifier import save_run, small_network
from tests.helpers.serving import client_of, serve_here
from tests.helpers.sounds import RATE, SMALL_FEATURES, tone

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="needs Chromium")
# A class whose name would be an element if it were parsed as HTML.
EVIL = "<b id='evil'>\"tone\" & 2"
TOKEN = "correct-token"
RESULT = "document.querySelector('#result .bars li')"


def save_tone_classifier(run: Path, names: Sequence[str], **metadata: object) -> Path:
    """Save a network that classifies tones of about 300, 600 and 1200 Hz, which takes a second to train."""
    labels, rng = torch.arange(3).repeat(16), np.random.default_rng(0)
    tones = [
        tone(300 * 2**label * rng.uniform(0.95, 1.05), seed=seed)
        for seed, label in enumerate(labels.tolist())
    ]
    mels = torch.from_numpy(np.stack([spectrogram(samples, SMALL_FEATURES) for samples in tones])).float()
    model = small_network(len(names))
    model.set_statistics(mels.mean((0, 2)), mels.std((0, 2)) + 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(mels), labels).backward()
        optimizer.step()
    return save_run(run, model, class_names=tuple(names), **metadata)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, generator_run: Path) -> Iterator[httpx.Client]:
    """Serve a classifier, a multi-label classifier and a generator; yield a client."""
    folder = tmp_path_factory.mktemp("page")
    runs = [
        save_tone_classifier(folder / "single", ("tone 0", "tone 1", EVIL)),
        save_tone_classifier(folder / "multi", ("a", "b", "c"), multi_label=True, thresholds=(0.5, 0.6, 0.7)),
    ]
    with client_of(serve_here([*runs, generator_run])) as client:
        yield client


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: httpx.Client) -> Iterator[Browser]:
    """Open the page in a wide window; check that it logs nothing but responses with an error."""
    browser.messages.clear()
    browser.resize(1280)
    browser.set_color_scheme("light")
    browser.navigate(str(server.base_url))
    browser.wait("!document.querySelector('#classify').hidden")
    yield browser
    assert [text for text in browser.messages if "422" not in text] == []


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 1 s of tone 1, 10 s of tones 0 and 2, and a text file."""
    folder = tmp_path_factory.mktemp("sounds")
    soundfile.write(folder / "short.wav", tone(610), RATE)
    soundfile.write(folder / "long.flac", np.concatenate([tone(310, 4.0), tone(1220, 6.0)]), RATE)
    (folder / "notes.txt").write_text("no audio")
    return folder


def classify(page: Browser, *files: Path) -> None:
    """Upload files and wait for the result of the last."""
    page.choose_files("#file", files)
    name = json.dumps(files[-1].name)
    page.wait(f"document.querySelector('#result audio')?.ariaLabel === 'Audio of ' + {name}")


def generate(page: Browser) -> None:
    """Generate the clip of the form and wait for it and the real clips."""
    page.click("#generate-form .primary")
    page.wait("document.querySelector('#generated audio')?.readyState")
    page.wait("document.querySelectorAll('#examples audio[src]').length > 3")


def test_upload_shows_result_and_player(page: Browser, server: httpx.Client, sounds: Path) -> None:
    classify(page, sounds / "short.wav")
    assert page.text("#result .top-label") == "tone 1"
    response = server.post("/classify", files={"file": (sounds / "short.wav").read_bytes()}).json()
    names = "[...document.querySelectorAll('.bars .name')].map((name) => name.textContent)"
    assert page.evaluate(names) == [prediction["label"] for prediction in response["predictions"]]
    page.wait("document.querySelector('#result audio').readyState")
    assert page.evaluate("document.querySelector('#result audio').duration") == pytest.approx(1, abs=0.01)
    canvas = "document.querySelector('.timeline canvas')"
    page.wait(f"new Set({canvas}.getContext('2d').getImageData(60, 30, 500, 200).data).size > 30")
    before = page.evaluate("document.querySelector('.timeline .cursor').style.transform")
    page.evaluate("document.querySelector('#result audio').play()")
    page.wait("document.querySelector('#result audio').currentTime > 0.1")
    assert page.evaluate("document.querySelector('.timeline .cursor').style.transform") != before
    assert page.text("#announcer").startswith("short.wav: tone 1")


def test_text_file_shows_reason_of_server(page: Browser, server: httpx.Client, sounds: Path) -> None:
    page.choose_files("#file", [sounds / "notes.txt"])
    page.wait("document.querySelector('#classify-error').innerText")
    assert page.evaluate("document.querySelector('#classify-error').role") == "alert"
    response = server.post("/classify", files={"file": ("notes.txt", (sounds / "notes.txt").read_bytes())})
    assert response.status_code == 422
    assert page.text("#classify-error") == f"notes.txt: {response.json()['detail']}"


def test_dropped_sounds_are_all_classified(page: Browser) -> None:
    drop = """
    (async () => {
      const data = new DataTransfer();
      for (const seed of [1, 2]) {
        const response = await fetch(`generate?label=tone 0&seed=${seed}`);
        data.items.add(new File([await response.blob()], `clip ${seed}.wav`));
      }
      const options = { dataTransfer: data, bubbles: true, cancelable: true };
      document.body.dispatchEvent(new DragEvent("drop", options));
    })()
    """
    page.evaluate(drop)
    page.wait("document.querySelectorAll('#history button').length === 2")
    assert page.text("#history [aria-pressed=true]").startswith("clip 2.wav")
    page.click("#history button:last-child")
    page.wait("document.querySelector('#result audio').ariaLabel === 'Audio of clip 1.wav'")


def test_long_sound_shows_curves_and_events(page: Browser, sounds: Path) -> None:
    classify(page, sounds / "long.flac")
    legend = page.evaluate("[...document.querySelectorAll('.legend button')].map((one) => one.textContent)")
    assert sorted(legend) == sorted(["tone 0", "tone 1", EVIL])
    assert page.evaluate("document.querySelectorAll('#evil').length") == 0
    rows = page.evaluate(
        "[...document.querySelectorAll('.events tbody tr')].map((row) => row.cells[3].textContent)"
    )
    assert rows == ["tone 0", EVIL]
    page.wait("document.querySelector('#result audio').readyState")
    page.click(".events tbody tr:last-child button")
    page.wait("document.querySelector('#result audio').currentTime > 3")
    page.evaluate("document.querySelector('#result audio').pause()")
    box = page.evaluate(
        "(() => { const box = document.querySelector('.timeline').getBoundingClientRect();"
        " return [box.left, box.width, box.bottom - 60]; })()"
    )
    page.click_at(box[0] + 44 + (box[1] - 56) / 4, box[2])
    time_now = page.evaluate("document.querySelector('#result audio').currentTime")
    assert time_now == pytest.approx(2.5, abs=0.1)


def test_other_classifier_classifies_shown_sound_again(page: Browser, sounds: Path) -> None:
    classify(page, sounds / "short.wav")
    page.evaluate(
        "(() => { const select = document.querySelector('#classifier'); select.value = 'multi';"
        " select.dispatchEvent(new Event('change')); })()"
    )
    page.wait("document.querySelector('.top-note').textContent === 'multi'")
    # Each class of a multi-label model has a mark at its threshold.
    assert page.evaluate("document.querySelectorAll('.bars .bar b').length") == 3
    assert page.evaluate("document.querySelectorAll('#history button').length") == 1


def test_microphone_is_recorded_and_classified(page: Browser) -> None:
    page.click("#record")
    page.wait("parseFloat(document.querySelector('#record-time').textContent.slice(2)) > 0.5")
    page.click("#stop")
    page.wait(RESULT)
    assert page.text("#history button").startswith("recording-")
    page.wait("document.querySelector('#result audio').duration > 0.5")
    assert not page.evaluate("document.querySelector('#drop').hidden")


def test_generated_clip_is_seen_heard_and_compared(page: Browser) -> None:
    generate(page)
    assert page.evaluate("document.querySelector('#generated audio').duration") == pytest.approx(1, abs=0.05)
    page.wait("document.querySelector('#generated img').naturalWidth > 20")
    assert page.evaluate("document.querySelector('#generated a').download") == "tone_0_0.wav"
    page.click("#next-seed")
    page.wait("document.querySelectorAll('#generated figure').length === 2")
    assert "seed 1" in page.text("#generated figure figcaption")
    assert page.evaluate("document.querySelectorAll('#examples figure').length") == 6
    page.click("#generated figure button")
    page.wait(RESULT)
    assert page.text("#history button").startswith("tone_0_1.wav")


def test_page_is_used_with_keyboard_alone(page: Browser, sounds: Path) -> None:
    def tab_to(selector: str, modifiers: int = 0) -> None:
        for _ in range(60):
            page.press("Tab", modifiers)
            if page.evaluate(f"document.activeElement.matches({json.dumps(selector)})"):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"{selector} is not reached")

    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    page.evaluate("document.querySelector('#file').addEventListener('click', () => (window.isAsked = true))")
    tab_to("#choose")
    page.press("Enter")
    page.wait("window.isAsked")
    page.call("Page.setInterceptFileChooserDialog", enabled=False)
    classify(page, sounds / "long.flac")
    page.wait("document.querySelector('#result audio').readyState")
    tab_to(".timeline")
    page.press("ArrowRight")
    assert page.evaluate("document.querySelector('#result audio').currentTime") == pytest.approx(
        0.25, abs=0.01
    )
    page.press(" ")
    page.wait("!document.querySelector('#result audio').paused")
    tab_to("#seed")
    page.press("Enter")
    page.wait("document.querySelector('#generated audio')")
    tab_to(".events button", SHIFT)


def test_upload_is_canceled(page: Browser, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "large.wav", np.zeros(48 * 8000), 8000)
    page.call("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1}
    page.call("Network.emulateNetworkConditions", uploadThroughput=30_000, **slow)
    page.choose_files("#file", [tmp_path / "large.wav"])
    page.wait("document.querySelector('#progress-bar').value > 1")
    assert page.text("#progress-text") == "Uploading large.wav"
    page.click("#cancel")
    page.wait("document.querySelector('#progress').hidden")
    page.call("Network.emulateNetworkConditions", uploadThroughput=-1, **slow)
    assert page.text("#classify-error") == ""
    assert page.evaluate("document.querySelector('#announcer').textContent") == "Canceled."


@pytest.mark.parametrize("width", [390, 360])
def test_phone_has_no_sideways_scrolling(page: Browser, sounds: Path, width: int) -> None:
    page.resize(width, is_mobile=True)
    classify(page, sounds / "notes.txt", sounds / "long.flac")
    generate(page)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_color_scheme(page: Browser, sounds: Path, scheme: str) -> None:
    page.set_color_scheme(scheme)
    classify(page, sounds / "notes.txt", sounds / "long.flac")
    generate(page)
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert body == {"light": "rgb(246, 246, 243)", "dark": "rgb(19, 22, 26)"}[scheme]
    assert page.evaluate(LOW_CONTRAST) == []


def test_token_is_asked_for_once(browser: Browser, generator_run: Path) -> None:
    with client_of(serve_here([generator_run], token=TOKEN)) as client:
        browser.navigate(str(client.base_url))
        browser.wait("document.querySelector('#token-dialog').open")
        browser.type("wrong")
        browser.press("Enter")
        browser.wait("document.querySelector('#token-error').textContent")
        browser.type(TOKEN)
        browser.press("Enter")
        browser.wait("!document.querySelector('#generate').hidden")
        browser.navigate(str(client.base_url))
        browser.wait("!document.querySelector('#generate').hidden")
        # A server without a classifier has no such section.
        assert browser.evaluate("document.querySelector('#classify').hidden")
        generate(browser)

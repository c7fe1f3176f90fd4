"""Makes the images of the README in docs/images from synthesized sounds: `make docs-images`.

Trains a classifier on all classes and a GAN on four in runs/docs (rerun to resume), then plots real and
generated spectrograms and takes screenshots of the classifier's report, of the page of a recording made of
test clips, and of the page of a server of both models, with headless Chromium.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from pipeline.audio.synthetic_dataset import write_dataset
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.sampling import generate_mel, latents_from_seed
from pipeline.report.clips import decibel_scale
from pipeline.report.figures import spectrogram_grid_png
from pipeline.training.model_file import load_generator
from pipeline.training.run import load_run_data
from tests.helpers.browser import open_browser

IMAGES = Path(__file__).parent / "images"
RUNS = Path("runs/docs")
# Classes with clearly different time-frequency patterns, and clips of each.
CLASSES = ("bell_struck", "chirp_rising", "siren", "ticks_accelerating")
REAL, GENERATED = 2, 3
# Clips of the recording, and seconds from the start of one to that of the next.
RECORDING_CLIPS, RECORDING_STEP = 12, 5.5
# Width and height of the screenshots in pixels, and the size limit of an image file in bytes.
VIEWPORT, RECORDING_VIEWPORT, MAX_BYTES = (1280, 1600), (1280, 1010), 300_000
SERVER_VIEWPORT = (1280, 1640)


def main() -> None:
    """Train what is missing, then write all images."""
    write_dataset(RUNS / "sounds")
    # Small spectrograms and no reference classifier: minutes on two cores.
    features = ("--features.mel.n-mels", 64, "--features.mel.hop-length", 1024)
    melray("extract", "--data", RUNS / "sounds", "--out", RUNS / "shards", *features)
    # Few epochs, so that the report has mistakes to show.
    melray("train-classifier", "--shards", RUNS / "shards", "--run", RUNS / "classifier", "--epochs", 6)
    melray("evaluate", "--run", RUNS / "classifier")
    melray("extract", "--data", gan_sounds(), "--out", RUNS / "gan_shards", *features)
    gan = ("--run", RUNS / "gan", "--epochs", 60, "--no-select-best")
    melray("train-gan", "--shards", RUNS / "gan_shards", *gan)
    IMAGES.mkdir(exist_ok=True)
    save("real_and_generated.png", Image.open(io.BytesIO(real_and_generated(RUNS / "gan"))))
    save("classifier_report.png", screenshot(RUNS / "classifier" / "report.html", VIEWPORT))
    save("recording.png", screenshot(recording_page(), RECORDING_VIEWPORT))
    sound = RUNS / "sounds" / "test" / test_clips()[0]["id"]
    save("server_page.png", server_page([RUNS / "classifier", RUNS / "gan"], sound, CLASSES[0]))


def gan_sounds() -> Path:
    """Copy the training clips of `CLASSES` to a folder of their own, and return it."""
    folder = RUNS / "gan_sounds"
    for name in CLASSES:
        shutil.copytree(RUNS / "sounds" / "train" / name, folder / name, dirs_exist_ok=True)
    return folder


def recording_page() -> Path:
    """Write a recording of test clips in noise, their labels for Audacity, and its page; return the page."""
    clips = test_clips()
    rate = soundfile.info(RUNS / "sounds" / "test" / clips[0]["id"]).samplerate
    size = round((1 + RECORDING_CLIPS * RECORDING_STEP) * rate)
    samples = np.random.default_rng(0).normal(0, 0.003, size)
    lines = []
    for i, clip in enumerate(clips):
        sound, _ = soundfile.read(RUNS / "sounds" / "test" / clip["id"])
        start = round((1 + i * RECORDING_STEP) * rate)
        samples[start : start + sound.size] += sound[: size - start]
        lines.append(f"{start / rate}\t{(start + sound.size) / rate}\t{clip['label']}\n")
    recording, labels, page = (RUNS / f"recording.{ending}" for ending in ("flac", "txt", "html"))
    soundfile.write(recording, np.clip(samples, -1, 1), rate)
    labels.write_text("".join(lines), encoding="utf-8")
    annotations = ("--annotations", labels, "--hop", 1, "--out", page)
    melray("show", recording, "--run", RUNS / "classifier", *annotations)
    return page


def test_clips() -> list[dict[str, str]]:
    """Return `id` and `label` of the first test clips."""
    with (RUNS / "sounds" / "test_labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))[:RECORDING_CLIPS]


def melray(*words: object) -> None:
    """Run a melray command."""
    subprocess.run([Path(sys.executable).with_name("melray"), *map(str, words)], check=True)


def real_and_generated(run: Path) -> bytes:
    """Return a PNG with a row per class: real training clips, then generated ones."""
    _, dataset, split = load_run_data(run, TrainGanConfig)
    saved = load_generator(run)
    mels = []
    for label in map(dataset.class_names.index, CLASSES):
        rows = split.train[dataset.labels[split.train] == label][:REAL]
        generated = [
            generate_mel(saved.model, latents_from_seed(saved.model, [seed]), label, dataset.features.mel)
            for seed in range(1, GENERATED + 1)
        ]
        mels.append(np.stack([*dataset.mels[rows].astype(np.float32), *generated]))
    grid = np.stack(mels)
    scale = decibel_scale(list(grid[:, :REAL].reshape(-1, *grid.shape[2:])))
    title = f"{REAL} real clips (left) and {GENERATED} generated clips (right) per class"
    return spectrogram_grid_png(grid, CLASSES, dataset.features.mel, scale, title)


def screenshot(page: Path, viewport: tuple[int, int]) -> Image.Image:
    """Render an HTML file with headless Chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("the screenshot needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        window = f"--window-size={viewport[0]},{viewport[1]}"
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=10000", window]
        command = [browser, *flags, f"--screenshot={path}", page.absolute().as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        return Image.open(io.BytesIO(path.read_bytes()))


def server_page(runs: list[Path], sound: Path, label: str) -> Image.Image:
    """Serve a classifier and a generator; render the page after it has classified and generated a sound."""
    with tempfile.TemporaryDirectory() as folder, serving(runs) as url, open_browser(Path(folder)) as browser:
        browser.resize(*SERVER_VIEWPORT)
        browser.set_color_scheme("light")
        browser.navigate(url)
        browser.wait("!document.querySelector('#classify').hidden")
        browser.choose_files("#file", [sound])
        browser.wait("document.querySelector('#result audio')?.readyState > 2")
        browser.evaluate(f"document.querySelector('#label').value = {json.dumps(label)}")
        for count, button in enumerate(("#generate-form .primary", *["#next-seed"] * 2), 1):
            browser.evaluate(f"document.querySelector('{button}').click()")
            browser.wait(f"document.querySelectorAll('#generated figure').length === {count}")
        loaded = "[...document.querySelectorAll('audio')].every((audio) => audio.readyState > 2)"
        browser.wait(f"document.querySelector('#examples audio[src]') && {loaded}")
        return Image.open(io.BytesIO(browser.screenshot()))


@contextmanager
def serving(runs: list[Path]) -> Iterator[str]:
    """Run `melray serve` for runs; yield the URL of its page."""
    flags = [word for run in runs for word in ("--run", str(run))]
    command = [Path(sys.executable).with_name("melray"), "serve", *flags, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            yield next(line.split()[1] for line in process.stdout if line.startswith("page: "))
        finally:
            process.send_signal(signal.SIGINT)


def save(name: str, image: Image.Image) -> None:
    """Write an image with a palette, which is a third of the size, and check its size."""
    path = IMAGES / name
    image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{path}: {size} bytes, more than {MAX_BYTES}")
    print(f"{path}: {size // 1000} kB")


if __name__ == "__main__":
    main()

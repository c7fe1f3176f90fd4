"""Makes the images of the README in docs/images from synthesized sounds: `make docs-images`.

`make docs-images IMAGES=server_page` makes one of them; several are separated by blanks. What an image needs
is trained in runs/docs first (rerun to resume): within minutes a classifier of all classes for its report,
the page of a recording made of test clips and the page of a server, of which headless Chromium takes
screenshots; within half an hour a GAN of four classes for real and generated spectrograms.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from pipeline.audio.decode import decode
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
# Clips of the recording, seconds from the start of one to that of the next, and its sample rate in Hz.
RECORDING_CLIPS, RECORDING_STEP, RATE = 12, 5.5, 22_050
# Width and height of the screenshots in pixels, and the size limit of an image file in bytes.
VIEWPORT, RECORDING_VIEWPORT, MAX_BYTES = (1280, 1600), (1280, 992), 300_000
# The page of the server, and the class of the sound that it classifies.
SERVER_VIEWPORT, SERVER_CLASS = (1280, 930), "siren"
# Small spectrograms: minutes on two cores.
FEATURES = ("--features.mel.n-mels", 64, "--features.mel.hop-length", 1024)


def main() -> None:
    """Make the images that are named on the command line, or all, after training what they need."""
    makers: dict[str, Callable[[], Image.Image]] = {
        "classifier_report": classifier_report,
        "recording": recording,
        "server_page": server_page,
        "real_and_generated": real_and_generated,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"{', '.join(makers)} (default: all)")
    names = parser.parse_args().images or list(makers)
    if unknown := [name for name in names if name not in makers]:
        parser.error(f"no image {', '.join(unknown)}: choose of {', '.join(makers)}")
    IMAGES.mkdir(exist_ok=True)
    for name in names:
        save(f"{name}.png", makers[name]())


@cache
def classifier() -> Path:
    """Train a classifier on synthesized sounds; return its run."""
    run = RUNS / "classifier"
    write_dataset(RUNS / "sounds")
    melray("extract", "--data", RUNS / "sounds", "--out", RUNS / "shards", *FEATURES)
    # Few epochs, so that the report has mistakes to show.
    melray("train-classifier", "--shards", RUNS / "shards", "--run", run, "--epochs", 6)
    return run


@cache
def gan() -> Path:
    """Train a GAN on the sounds of `CLASSES`; return its run."""
    run = RUNS / "gan"
    write_dataset(RUNS / "sounds")
    melray("extract", "--data", gan_sounds(), "--out", RUNS / "gan_shards", *FEATURES)
    # No reference classifier.
    melray("train-gan", "--shards", RUNS / "gan_shards", "--run", run, "--epochs", 60, "--no-select-best")
    return run


def gan_sounds() -> Path:
    """Copy the training clips of `CLASSES` to a folder of their own, and return it."""
    folder = RUNS / "gan_sounds"
    for name in CLASSES:
        shutil.copytree(RUNS / "sounds" / "train" / name, folder / name, dirs_exist_ok=True)
    return folder


def classifier_report() -> Image.Image:
    """Return the report of the classifier."""
    melray("evaluate", "--run", classifier())
    return screenshot(classifier() / "report.html", VIEWPORT)


def recording() -> Image.Image:
    """Return the page of a recording with detected and annotated events."""
    run = classifier()
    audio, labels = write_recording()
    page = audio.with_suffix(".html")
    melray("show", audio, "--run", run, "--annotations", labels, "--hop", 1, "--out", page)
    return screenshot(page, RECORDING_VIEWPORT)


def write_recording() -> tuple[Path, Path]:
    """Write a recording of test clips in noise, and their labels for Audacity; return both files."""
    size = round((1 + RECORDING_CLIPS * RECORDING_STEP) * RATE)
    samples = np.random.default_rng(0).normal(0, 0.003, size)
    lines = []
    for i, clip in enumerate(test_clips()):
        sound = decode(RUNS / "sounds" / "test" / clip["id"], RATE)
        start = round((1 + i * RECORDING_STEP) * RATE)
        samples[start : start + sound.size] += sound[: size - start]
        lines.append(f"{start / RATE}\t{(start + sound.size) / RATE}\t{clip['label']}\n")
    audio, labels = RUNS / "recording.flac", RUNS / "recording.txt"
    soundfile.write(audio, np.clip(samples, -1, 1), RATE)
    labels.write_text("".join(lines), encoding="utf-8")
    return audio, labels


def test_clips() -> list[dict[str, str]]:
    """Return `id` and `label` of the first test clips."""
    with (RUNS / "sounds" / "test_labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))[:RECORDING_CLIPS]


def melray(*words: object) -> None:
    """Run a melray command."""
    subprocess.run([sys.executable, "-m", "cluster", *map(str, words)], check=True)


def real_and_generated() -> Image.Image:
    """Return an image with a row per class: real training clips, then generated ones."""
    run = gan()
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
    content = spectrogram_grid_png(grid, CLASSES, dataset.features.mel, scale, title)
    return Image.open(io.BytesIO(content))


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


def server_page() -> Image.Image:
    """Serve the classifier; return its page after it has classified a test clip."""
    run = classifier()
    clip = next(clip for clip in test_clips() if clip["label"] == SERVER_CLASS)
    sound = RUNS / "sounds" / "test" / clip["id"]
    with tempfile.TemporaryDirectory() as folder, serving(run) as url, open_browser(Path(folder)) as browser:
        browser.resize(*SERVER_VIEWPORT)
        browser.set_color_scheme("light")
        browser.navigate(url)
        browser.wait("!document.querySelector('#classify').hidden")
        browser.choose_files("#file", [sound])
        browser.wait("document.querySelector('#result audio')?.readyState > 2")
        return Image.open(io.BytesIO(browser.screenshot()))


@contextmanager
def serving(run: Path) -> Iterator[str]:
    """Run `melray serve` for a run; yield the URL of its page."""
    command = [sys.executable, "-m", "cluster", "serve", "--run", str(run), "--port", "0"]
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

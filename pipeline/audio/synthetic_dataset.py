"""Synthetic labeled dataset: a folder of synthetic sounds for training, and one of sounds to predict."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from pipeline.audio.augment import row_rng
from pipeline.audio.synthesize import CLASS_NAMES, synthesize_clip
from pipeline.io.arguments import check_integer
from pipeline.io.errors import report_os_errors
from pipeline.io.storage import user_path

# A minority of clips has another sample rate or two channels, so that decoding is exercised.
SAMPLE_RATES, SAMPLE_RATE_PROBS = (22_050, 16_000, 44_100), (0.8, 0.1, 0.1)
STEREO_PROB = 0.2

# Raise it when the same arguments produce different sounds; existing datasets are then rewritten.
DATASET_VERSION = 1
MARKER, TEST_LABELS = "_complete.json", "test_labels.csv"


class ClipSeed(NamedTuple):
    """What a clip depends on, apart from the seed of the dataset."""

    split: str
    """train or test."""
    label: str
    number: int
    """Among the clips of its split and class."""


def write_dataset(
    folder: Path | str,
    *,
    train_per_class: int = 50,
    test_per_class: int = 12,
    seed: int = 42,
    classes: Sequence[str] = CLASS_NAMES,
) -> None:
    """Write a labeled training dataset and an unlabeled test dataset of synthetic sounds.

    Training clips are `folder/train/<class>/<class>_000.wav` and so on. Test clips are
    `folder/test/clip_000.wav` and so on, in random order, with their labels in `folder/test_labels.csv` (`id`
    is the file name). A clip depends only on the seed, its class and its number. A complete dataset with the
    same arguments is not written again.

    Args:
        folder: output folder or its URI; created if missing.
        train_per_class: training clips per class.
        test_per_class: test clips per class.
        seed: random seed.
        classes: names of some of the ten classes (default: all).

    Raises:
        ValueError: an unknown class, or a negative number.
        UserError: the folder cannot be written.
    """
    counts = {
        "train_per_class": check_integer("train_per_class", train_per_class, 0),
        "test_per_class": check_integer("test_per_class", test_per_class, 0),
    }
    seed, classes = check_integer("seed", seed, 0), _check_classes(classes)
    folder = user_path(folder)
    arguments = {"version": DATASET_VERSION, **counts, "seed": seed, "classes": classes}
    clips = _plan_train(classes, counts["train_per_class"]) | _plan_test(
        classes, counts["test_per_class"], seed
    )
    with report_os_errors("writing to", folder):
        if not _is_complete(folder, clips, arguments):
            _write_clips(folder, clips, seed)
            (folder / MARKER).write_text(_marker_text(arguments), encoding="utf-8")


def _check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes.

    Raises:
        ValueError: a single text, or an unknown class.
    """
    if isinstance(classes, str):
        raise ValueError(f"classes {classes!r}: expected a list of names, such as [{classes!r}]")
    if unknown := sorted(set(map(str, classes)) - set(CLASS_NAMES)):
        raise ValueError(f"class '{unknown[0]}': unknown; available: {', '.join(CLASS_NAMES)}")
    return tuple(classes)


def _plan_train(classes: Sequence[str], per_class: int) -> dict[str, ClipSeed]:
    """Return the training clips by their paths in the dataset."""
    return {
        f"train/{name}/{name}_{i:03d}.wav": ClipSeed("train", name, i)
        for name in classes
        for i in range(per_class)
    }


def _plan_test(classes: Sequence[str], per_class: int, seed: int) -> dict[str, ClipSeed]:
    """Return the test clips by their paths in the dataset, in random order."""
    clips = [ClipSeed("test", name, i) for name in classes for i in range(per_class)]
    order = row_rng(seed, "test order", 0).permutation(len(clips))
    return {f"test/clip_{i:03d}.wav": clips[index] for i, index in enumerate(order)}


def _marker_text(arguments: Mapping[str, object]) -> str:
    """Return the content of the file that marks a dataset with these arguments as complete."""
    return json.dumps(arguments, indent=1) + "\n"


def _is_complete(folder: Path, clips: Mapping[str, ClipSeed], arguments: Mapping[str, object]) -> bool:
    """Return whether a folder has the dataset with these arguments, and all of its files."""
    marker = folder / MARKER
    return (
        marker.is_file()
        and marker.read_text(encoding="utf-8") == _marker_text(arguments)
        and all((folder / name).is_file() for name in (*clips, TEST_LABELS))
    )


def _write_clips(folder: Path, clips: Mapping[str, ClipSeed], seed: int) -> None:
    """Write all clips, and the labels of the test clips, instead of those of an earlier dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    # Delete the surplus clips of an earlier, larger dataset.
    paths = {folder / name for name in clips}
    for path in {*folder.glob("train/*/*_[0-9]*.wav"), *folder.glob("test/clip_[0-9]*.wav")} - paths:
        path.unlink()
    labels = "id,label\n"
    for name, clip in clips.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_encode_clip(clip.label, row_rng(seed, f"{clip.split}/{clip.label}", clip.number)))
        if clip.split == "test":
            labels += f"{path.name},{clip.label}\n"
    (folder / TEST_LABELS).write_text(labels, encoding="utf-8")


def _encode_clip(label: str, rng: np.random.Generator) -> bytes:
    """Return a clip of a class as a 16-bit WAV file of random sample rate and number of channels."""
    rate, stereo = int(rng.choice(SAMPLE_RATES, p=SAMPLE_RATE_PROBS)), rng.random() < STEREO_PROB
    gains = rng.uniform(0.5, 1.0, 2).astype(np.float32)
    clip = synthesize_clip(label, rng, rate)
    file = io.BytesIO()
    soundfile.write(file, clip[:, None] * gains if stereo else clip, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()

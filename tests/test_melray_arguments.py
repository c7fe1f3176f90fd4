"""Wrong arguments of the Python interface: one line that names the argument, its value and the fix.

What has a clear meaning works: numbers of numpy, tensors, samples of any floating point type.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import melray
from tests.helpers.classifier_training import train_run
from tests.helpers.sounds import RATE, tone, train_config, write_shards

SAMPLES = tone(400)


class Things(NamedTuple):
    """What the functions are called with."""

    audio: Path
    classifier: melray.SoundClassifier
    dataset: melray.SoundDataset


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    folder = tmp_path_factory.mktemp("python")
    shards = write_shards(folder, clips=4)
    train_run(train_config(shards, folder / "run", epochs=1))
    soundfile.write(folder / "a.wav", SAMPLES, RATE)
    return Things(
        folder / "a.wav", melray.load_classifier(folder / "run", "cpu"), melray.open_dataset(shards, fold=9)
    )


WRONG: list[tuple[str, Callable[[Things], Any]]] = [
    ("path None: expected a path or URI", lambda t: melray.load_classifier(None)),
    ("path 5: expected a path or URI", lambda t: melray.read_run(5)),
    ("path b'runs': expected a path or URI", lambda t: melray.read_search(b"runs")),
    ("a\0b: a path has no null characters", lambda t: melray.open_dataset("a\0b")),
    ("fold 9: fold not found", lambda t: t.dataset.rows("train")),
    ("part ['train']: expected 'train', ", lambda t: t.dataset.rows(["train"])),
    ("augment {}: expected True, False or melray.SpecAugmentConfig", lambda t: t.dataset.torch("all", {})),
    ("audio file None: expected a path or URI", lambda t: melray.load_audio(None)),
    ("https://host/a.wav: unsupported storage URI", lambda t: melray.load_audio("https://host/a.wav")),
    ("'sample_rate' = -5: ", lambda t: melray.load_audio(t.audio, -5)),
    (
        "features {'seconds': 1}: expected melray.FeatureConfig",
        lambda t: melray.spectrogram(t.audio, {"seconds": 1}),
    ),
    ("sample_rate None: give the rate", lambda t: melray.spectrogram(SAMPLES)),
    ("sample_rate '8000': expected a number from 100 to", lambda t: melray.loudness(SAMPLES, "8000")),
    ("sample_rate inf: expected a number", lambda t: t.classifier.predict(SAMPLES, float("inf"))),
    ("sample_rate 8000: is for samples", lambda t: t.classifier.predict(t.audio, 8000)),
    ("sample_rate 8000: is for samples", lambda t: melray.spectrogram(t.audio, None, 8000)),
    (
        "samples of type int16: expected floating point in [-1, 1]; divide them by full scale, "
        "as samples / 32768",
        lambda t: melray.loudness(SAMPLES.astype(np.int16), RATE),
    ),
    ("samples of type complex128: ", lambda t: melray.loudness(SAMPLES.astype(complex), RATE)),
    (
        f"samples of shape (2, {SAMPLES.size}): expected mono",
        lambda t: t.classifier.predict(np.stack([SAMPLES, SAMPLES]), RATE),
    ),
    ("samples of shape (0,): ", lambda t: melray.normalize_loudness(SAMPLES[:0], RATE)),
    ("samples with nan at index 1: ", lambda t: t.classifier.classify_samples([0.0, np.nan], RATE)),
    ("windows 0: expected a whole number of 1 or more", lambda t: t.classifier.classify(t.audio, 0)),
    ("windows 1.5: expected a whole number", lambda t: t.classifier.predict(t.audio, windows=1.5)),
    ("windows True: expected a whole number", lambda t: t.classifier.classify_many([t.audio], True)),
    (
        "audio file of type ndarray and shape",
        lambda t: t.classifier.classify(SAMPLES),
    ),
    ("sources 5: expected a folder, or a list", lambda t: t.classifier.classify_many(5)),
    (
        "sources of type DataFrame and shape (1, 1): expected a folder, or a list of audio files; of a table "
        "give the column of paths",
        lambda t: t.classifier.classify_many(pd.DataFrame({"path": [t.audio]})),
    ),
    (
        "sources {'a.wav': 'dog'}: expected a folder, or a list",
        lambda t: t.classifier.classify_many({"a.wav": "dog"}),
    ),
    ("sources <_io.BytesIO object at", lambda t: t.classifier.classify_many(io.BytesIO(b"a.wav\n"))),
    ("audio file None: ", lambda t: t.classifier.classify_many([t.audio, None])),
    ("mels of shape (16, 32) and type float16: ", lambda t: t.classifier.classify_mels(t.dataset.mels[0])),
    ("mels with values that are NaN", lambda t: t.classifier.classify_mels(np.nan * t.dataset.mels[:2])),
    (
        "mels with values of 1e+30: expected decibels",
        lambda t: t.classifier.embed_mels(np.full((1, *t.classifier.features.shape), 1e30)),
    ),
    ("hop 'a': expected a number", lambda t: t.classifier.classify_windows(t.audio, "a")),
    ("threshold 2: expected a number from 0 to 1", lambda t: t.classifier.classify_windows(t.audio, None, 2)),
    ("count 0: ", lambda t: t.classifier.predict(t.audio).top(0)),
    (
        "level 'loud': unknown; choose debug, info, warning, error",
        lambda t: melray.set_log_level("loud"),
    ),
]


@pytest.mark.parametrize(("message", "call"), WRONG, ids=[message for message, _ in WRONG])
def test_wrong_argument_is_named(message: str, call: Callable[[Things], Any], things: Things) -> None:
    with pytest.raises((ValueError, melray.UserError, melray.ConfigError), match=re.escape(message)) as error:
        call(things)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "samples",
    [
        SAMPLES.astype(np.float64),
        torch.from_numpy(SAMPLES).requires_grad_(),
        SAMPLES.tolist(),
        np.broadcast_to(SAMPLES, SAMPLES.shape),  # read-only
    ],
    ids=["float64", "tensor", "list", "read-only"],
)
def test_samples_of_any_floating_point_type(samples: Any, things: Things) -> None:
    expected = things.classifier.predict(SAMPLES, RATE).probabilities
    np.testing.assert_array_equal(things.classifier.predict(samples, np.int64(RATE)).probabilities, expected)
    np.testing.assert_array_equal(things.classifier.classify_samples(samples, float(RATE)), expected)
    assert melray.loudness(samples, RATE) == melray.loudness(SAMPLES, RATE)
    np.testing.assert_array_equal(
        melray.spectrogram(samples, None, RATE), melray.spectrogram(SAMPLES, None, RATE)
    )


@pytest.mark.parametrize("content", [bytes, bytearray, memoryview])
def test_content_of_a_file_is_one_source(content: Callable[[bytes], Any], things: Things) -> None:
    table = things.classifier.classify_many(content(things.audio.read_bytes()))
    assert table["label"].to_list() == [things.classifier.predict(things.audio).label]


def test_spectrograms_are_a_list_of_arrays_or_none(things: Things) -> None:
    mels = things.dataset.mels[:2]
    expected = things.classifier.classify_mels(mels)
    np.testing.assert_array_equal(things.classifier.classify_mels(list(mels)), expected)
    assert things.classifier.classify_mels(mels[:0]).shape == (0, 3)

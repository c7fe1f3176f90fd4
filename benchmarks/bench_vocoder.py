"""From spectrograms to sound: time and error of melray's vocoder against librosa's `mel_to_audio`, both on one thread.

    python -m benchmarks.bench_vocoder --audio FOLDER_OF_CLASS_FOLDERS

Clips of 5 s, real ones and generated ones, each at a peak of 0.3, so that melray has none to make quieter. Both do 32
iterations, clip by clip in turn. The error is the mean absolute difference in dB between the log-mel spectrogram that was
given and that of the sound, both down to 80 dB below their loudest value. The distance compares spectra of short windows,
which neither was asked for, with those of the first sound: it tells whether a small error was bought at the sound's cost.
"""

from __future__ import annotations

import os

# Before numpy and torch are loaded: later they no longer look.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch

from benchmarks.common import save, spread
from pipeline.audio.decode import decode, fix_length
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import log_mel
from pipeline.audio.synthesize import CLASS_NAMES, synthesize_clip
from pipeline.audio.vocoder import mel_to_audio

FEATURES = FeatureConfig()
MEL = FEATURES.mel
ITERATIONS = 32
LEVEL = 0.3
RANGE_DB = 80.0

Inverse = Callable[[np.ndarray, int], np.ndarray]  # of a log-mel spectrogram and a seed


def melray(mel: np.ndarray, seed: int) -> np.ndarray:
    """The sound of one log-mel spectrogram, as melray makes it."""
    return mel_to_audio(mel, MEL, FEATURES.num_samples, iterations=ITERATIONS, seed=seed)


def by_librosa(mel: np.ndarray, seed: int) -> np.ndarray:
    """The same by librosa."""
    np.random.seed(seed)
    return librosa.feature.inverse.mel_to_audio(
        librosa.db_to_power(mel),
        sr=MEL.sample_rate,
        n_fft=MEL.n_fft,
        hop_length=MEL.hop_length,
        fmin=MEL.fmin,
        fmax=MEL.fmax,
        n_iter=ITERATIONS,
        pad_mode="constant",
        length=FEATURES.num_samples,
    )


def real_sounds(audio: Path, count: int) -> Iterator[np.ndarray]:
    """Clips spread evenly over the files."""
    paths = sorted(path for path in audio.rglob("*") if path.suffix in (".ogg", ".wav", ".flac"))
    for path in paths[:: max(1, len(paths) // count)][:count]:
        yield decode(path, MEL.sample_rate)


def generated_sounds(count: int) -> Iterator[np.ndarray]:
    """Clips of the demo's classes in turn."""
    for number in range(count):
        yield synthesize_clip(
            CLASS_NAMES[number % len(CLASS_NAMES)], np.random.default_rng(number), MEL.sample_rate
        )


def difference(decibel: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute difference, each down to 80 dB below its loudest value."""
    first, second = (np.maximum(values, values.max() - RANGE_DB) for values in (decibel, reference))
    return float(np.abs(first - second).mean())


def short_spectra(samples: np.ndarray) -> np.ndarray:
    """Spectra of windows a quarter as long, in dB."""
    return librosa.amplitude_to_db(
        np.abs(librosa.stft(samples, n_fft=MEL.n_fft // 4)), amin=1e-7, top_db=None
    )


def compare(sounds: Iterator[np.ndarray]) -> dict[str, Any]:
    """Milliseconds, error and distance of both, and their ratios."""
    contestants: dict[str, Inverse] = {"melray": melray, "librosa": by_librosa}
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in contestants}
    for number, sound in enumerate(sounds):
        samples = fix_length(sound, FEATURES.num_samples)
        samples = samples * np.float32(LEVEL / np.abs(samples).max())
        mel = log_mel(MEL)(samples)
        for name, inverse in contestants.items():
            start = time.perf_counter()
            out = inverse(mel, number)
            milliseconds = 1000 * (time.perf_counter() - start)
            rows[name].append(
                (
                    milliseconds,
                    difference(log_mel(MEL)(out), mel),
                    difference(short_spectra(out), short_spectra(samples)),
                )
            )
    ours, theirs = (np.array(rows[name]).T for name in contestants)
    result: dict[str, Any] = {"clips": ours.shape[1], "times_as_fast": spread((theirs[0] / ours[0]).tolist())}
    for name, (milliseconds, error, distance) in (("melray", ours), ("librosa", theirs)):
        result[f"{name}_milliseconds"] = spread(milliseconds.tolist())
        result[f"{name}_error_db"] = {"mean": float(error.mean())} | spread(error.tolist())
        result[f"{name}_distance_db"] = {"mean": float(distance.mean())} | spread(distance.tolist())
    return result | {"clips_with_less_error": int((ours[1] < theirs[1]).sum())}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare(generated_sounds(2))  # warm: tables of the transforms, imports that librosa puts off
    result: dict[str, Any] = {"iterations": ITERATIONS, "threads": 1}
    result["real"] = compare(real_sounds(arguments.audio, arguments.clips))
    result["generated"] = compare(generated_sounds(arguments.clips // 2))
    save("vocoder", result)


if __name__ == "__main__":
    main()

"""Vocoder: time and error against librosa's `mel_to_audio`, both on one thread.

    python -m benchmarks.bench_vocoder --audio FOLDER_OF_CLASS_FOLDERS

Real and synthetic clips of 5 s with a peak of 0.3, which melray does not attenuate. Both run 32 iterations
and alternate clip by clip. The error is the mean absolute difference in dB between the given log-mel
spectrogram and that of the output, each limited to 80 dB below its maximum. The distance compares
short-window spectra, which neither optimizes, with those of the original clip: it detects a small error at
the expense of audio quality.
"""

from __future__ import annotations

import os

# Before numpy and torch are imported, which read these once.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch

from benchmarks.common import save_result, summarize
from pipeline.audio.decode import decode
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import log_mel
from pipeline.audio.synthesize import CLASS_NAMES, synthesize_clip
from pipeline.audio.vocoder import mel_to_audio
from pipeline.audio.waveform import fix_length

FEATURES = FeatureConfig()
MEL = FEATURES.mel
ITERATIONS = 32
LEVEL = 0.3
RANGE_DB = 80.0

# Maps a log-mel spectrogram and a seed to samples.
Inverse = Callable[[np.ndarray, int], np.ndarray]


def by_melray(
    mel: np.ndarray, seed: int, features: FeatureConfig = FEATURES, iterations: int = ITERATIONS
) -> np.ndarray:
    """Synthesize one log-mel spectrogram with melray."""
    return mel_to_audio(mel, features.mel, features.num_samples, iterations=iterations, seed=seed)


def by_librosa(mel: np.ndarray, seed: int, features: FeatureConfig = FEATURES) -> np.ndarray:
    """Synthesize one log-mel spectrogram with librosa."""
    np.random.seed(seed)
    return librosa.feature.inverse.mel_to_audio(
        librosa.db_to_power(mel),
        sr=features.mel.sample_rate,
        n_fft=features.mel.n_fft,
        hop_length=features.mel.hop_length,
        fmin=features.mel.fmin,
        fmax=features.mel.fmax,
        n_iter=ITERATIONS,
        pad_mode="constant",
        length=features.num_samples,
    )


def real_clips(audio: Path, count: int) -> Iterator[np.ndarray]:
    """Yield clips evenly spread over the files."""
    paths = sorted(path for path in audio.rglob("*") if path.suffix in (".ogg", ".wav", ".flac"))
    for path in paths[:: max(1, len(paths) // count)][:count]:
        yield decode(path, MEL.sample_rate)


def synthetic_clips(count: int) -> Iterator[np.ndarray]:
    """Yield synthetic clips, the classes in rotation."""
    for number in range(count):
        yield synthesize_clip(
            CLASS_NAMES[number % len(CLASS_NAMES)], np.random.default_rng(number), MEL.sample_rate
        )


def mean_difference(spectrum: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean absolute difference of two spectra in dB, each limited to 80 dB below its maximum."""
    limited, limited_reference = (
        np.maximum(values, values.max() - RANGE_DB) for values in (spectrum, reference)
    )
    return float(np.abs(limited - limited_reference).mean())


def short_spectra(samples: np.ndarray) -> np.ndarray:
    """Compute spectra in dB with windows of a quarter of the length."""
    return librosa.amplitude_to_db(
        np.abs(librosa.stft(samples, n_fft=MEL.n_fft // 4)), amin=1e-7, top_db=None
    )


def compare(clips: Iterator[np.ndarray]) -> dict[str, Any]:
    """Measure milliseconds per clip, error and distance of both, and the speedup."""
    implementations: dict[str, Inverse] = {"melray": by_melray, "librosa": by_librosa}
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in implementations}
    for number, clip in enumerate(clips):
        samples = fix_length(clip, FEATURES.num_samples)
        samples = samples * np.float32(LEVEL / np.abs(samples).max())
        mel = log_mel(MEL)(samples)
        for name, inverse in implementations.items():
            start_time = time.perf_counter()
            out = inverse(mel, number)
            milliseconds = 1000 * (time.perf_counter() - start_time)
            rows[name].append(
                (
                    milliseconds,
                    mean_difference(log_mel(MEL)(out), mel),
                    mean_difference(short_spectra(out), short_spectra(samples)),
                )
            )
    melray_rows, librosa_rows = (np.array(rows[name]).T for name in implementations)
    result: dict[str, Any] = {
        "clips": melray_rows.shape[1],
        "speedup": summarize((librosa_rows[0] / melray_rows[0]).tolist()),
    }
    for name, (milliseconds, error, distance) in (("melray", melray_rows), ("librosa", librosa_rows)):
        result[f"{name}_milliseconds"] = summarize(milliseconds.tolist())
        result[f"{name}_error_db"] = {"mean": float(error.mean())} | summarize(error.tolist())
        result[f"{name}_distance_db"] = {"mean": float(distance.mean())} | summarize(distance.tolist())
    return result | {"clips_with_less_error": int((melray_rows[1] < librosa_rows[1]).sum())}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare(synthetic_clips(2))  # warmup: FFT plans and lazy imports of librosa
    result: dict[str, Any] = {"iterations": ITERATIONS, "threads": 1}
    result["real"] = compare(real_clips(arguments.audio, arguments.clips))
    result["synthetic"] = compare(synthetic_clips(arguments.clips // 2))
    save_result("vocoder", result)


if __name__ == "__main__":
    main()

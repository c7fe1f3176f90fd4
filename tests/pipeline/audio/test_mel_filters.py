"""Window and mel filter bank, compared bit by bit with those of librosa."""

from __future__ import annotations

import subprocess
import sys
import warnings

import librosa
import numpy as np
import pytest

from pipeline.audio.mel_filters import hann_window, mel_filter_bank


@pytest.mark.parametrize("size", [16, 18, 256, 400, 1024, 2048, 4096, 65_536])
def test_window_equals_that_of_librosa(size: int) -> None:
    assert np.array_equal(hann_window(size), librosa.filters.get_window("hann", size))


@pytest.mark.parametrize("sample_rate", [1000, 8000, 16_000, 22_050, 44_100, 48_000, 192_000])
@pytest.mark.parametrize(
    ("n_fft", "n_mels", "fmin", "fmax_fraction"),
    [(2048, 128, 0.0, 1.0), (512, 64, 20.0, 0.9), (256, 16, 0.0, 1.0), (1024, 80, 55.0, 0.73), (16, 1, 0, 1)],
)
def test_filter_bank_equals_that_of_librosa(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax_fraction: float
) -> None:
    fmax = fmax_fraction * sample_rate / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filters without a frequency
        expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    bank = mel_filter_bank(sample_rate, n_fft, n_mels, fmin, fmax)
    assert bank.dtype == expected.dtype and np.array_equal(bank, expected)


def test_spectrograms_do_not_import_slow_libraries() -> None:
    code = (
        "import sys; from pipeline.audio.features import *; from pipeline.audio.augment import *\n"
        "features, rng = FeatureConfig(), np.random.default_rng(0)\n"
        "samples = rng.standard_normal(features.num_samples).astype(np.float32)\n"
        "spectrogram(samples, features)\n"
        "for function in AUGMENTATIONS.values(): function(samples, features.mel.sample_rate, 0.5, rng)\n"
        "print({'scipy.signal', 'numba', 'librosa', 'torch'} & sys.modules.keys())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output.stdout == "set()\n", output.stderr

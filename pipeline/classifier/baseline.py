"""Linear baseline on the time-averaged spectrum, for comparison with the network."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

MAX_ITERATIONS = 2000


def linear_baseline(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> float:
    """Fit multinomial logistic regression on mean spectra; return its accuracy on the test clips.

    Args:
        train_x: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        train_y: their classes `[shape=(N,)]`.
        test_x: spectrograms of the test clips, as `train_x`.
        test_y: their classes, as `train_y`.

    Returns:
        Fraction of the test clips that is classified correctly, in [0, 1].
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    model.fit(_mean_spectrum(train_x), train_y)
    return float(model.score(_mean_spectrum(test_x), test_y))


def _mean_spectrum(mels: np.ndarray) -> np.ndarray:
    """Return the mean over time `[shape=(N, n_mels)]`, summed in float32 as float16 would lose digits."""
    return mels.mean(axis=2, dtype=np.float32)

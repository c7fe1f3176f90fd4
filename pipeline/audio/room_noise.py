"""Stored noise and bands of the augmentation that adds rooms and noise to spectrograms of given settings."""

from __future__ import annotations

import numpy as np
import torch

from models.acoustics import Acoustics
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import LogMel
from pipeline.audio.mel_filters import band_edges

# Noise in addition to the length of a clip: the range of its random starts.
STORED_NOISE_S = 20.0


def acoustics_of(features: FeatureConfig, device: torch.device) -> Acoustics:
    """Return what the augmentation needs to know of spectrograms of these settings."""
    mel = features.mel
    edges = band_edges(mel.n_mels, mel.fmin, mel.sample_rate / 2 if mel.fmax is None else mel.fmax)
    widths, kilohertz = (edges[2:] - edges[:-2]) / 2, edges[1:-1] / 1000

    def to_device(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(device)

    return Acoustics(
        mel.hop_length / mel.sample_rate, to_device(kilohertz), to_device(widths), to_device(_white(features))
    )


def _white(features: FeatureConfig) -> np.ndarray:
    """Return the power spectrogram of white noise, of mean power 1 `[shape=(n_mels, num_frames)]`."""
    mel = features.mel
    edge = -(-mel.n_fft // mel.hop_length)  # frames that also see the zeros around the noise
    num_samples = features.num_samples + int(STORED_NOISE_S * mel.sample_rate) + 2 * edge * mel.hop_length
    samples = np.random.default_rng(0).standard_normal(num_samples, np.float32)
    decibel = LogMel(mel.model_copy(update={"top_db": None}))(samples)[:, edge:-edge]
    power = 10 ** (decibel / 10)
    return power / power.mean()

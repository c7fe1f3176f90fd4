"""Errors of a vocoder and of Griffin-Lim alone on clips that were not trained on, and their sounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch

from models.vocoder import VocoderNetwork
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import log_mel
from pipeline.audio.vocoder import SILENT_DB, Vocoder
from pipeline.audio.waveform import fix_length, write_wav
from pipeline.gan.vocoder.clips import Clips

# Values further below the maximum of a clip than this are not heard.
RANGE_DB = 80.0
# Peak of the clips.
PEAK = 0.3
# Clips whose sounds are written.
MAX_SOUNDS = 8


def score_vocoder(
    network: VocoderNetwork, clips: Clips, features: FeatureConfig, folder: Path
) -> dict[str, Any]:
    """Return the errors of the vocoder with the network, and without; write sounds of some clips to `folder`.

    Returns:
        `vocoder` and `griffin_lim`: `mel_db`, the mean absolute difference from the given log-mel
        spectrogram, and `spectrum_db`, that from the recording's spectrum with windows of an eighth to a half
        of the spectrogram's, which no iteration optimizes. Each is limited to 80 dB below its maximum.
    """
    vocoders = {"vocoder": Vocoder(features.mel, network=network), "griffin_lim": Vocoder(features.mel)}
    windows = [features.mel.n_fft // 2**power for power in (1, 2, 3)]
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in vocoders}
    for number, (recording, full_mel) in enumerate(zip(clips.samples, clips.mels, strict=True)):
        # The vocoder attenuates clips whose peaks would be cut off, which is no error of it.
        gain = np.float32(PEAK / np.abs(recording).max())
        samples, mel = recording * gain, np.maximum(full_mel + 20 * np.log10(gain), np.float32(SILENT_DB))
        for name, vocoder in vocoders.items():
            made = vocoder(torch.from_numpy(mel)[None], len(samples), number)[0].numpy()
            errors[name].append(
                (
                    mean_difference(log_mel(features.mel)(made), mel),
                    float(
                        np.mean([mean_difference(*_spectra([made, samples], window)) for window in windows])
                    ),
                )
            )
            if number < MAX_SOUNDS:
                write_wav(folder / f"clip_{number + 1}_{name}.wav", made, features.mel.sample_rate)
        if number < MAX_SOUNDS:
            write_wav(folder / f"clip_{number + 1}_recording.wav", samples, features.mel.sample_rate)
    return {
        name: dict(zip(("mel_db", "spectrum_db"), np.mean(values, axis=0).tolist(), strict=True))
        for name, values in errors.items()
    }


def _spectra(signals: Sequence[np.ndarray], window: int) -> list[np.ndarray]:
    """Return magnitudes in dB of signals, which are padded to the length of a window."""
    hop = window // 4
    spectra = [
        scipy.signal.stft(
            fix_length(samples, max(window, len(samples))),
            nperseg=window,
            noverlap=window - hop,
            scaling="psd",
        )[2]
        for samples in signals
    ]
    return [20 * np.log10(np.maximum(np.abs(spectrum), 1e-9)) for spectrum in spectra]


def mean_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean absolute difference in dB, each limited to `RANGE_DB` below its maximum."""
    limited = [np.maximum(values, values.max() - RANGE_DB) for values in (first, second)]
    return float(np.abs(limited[0] - limited[1]).mean())

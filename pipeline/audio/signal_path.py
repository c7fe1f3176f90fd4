"""The signal path of `features.py` as a torch module, for models that run without melray."""

from __future__ import annotations

from models.signal_path import SignalPath, SignalSettings, TrimSettings
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import AMIN, filter_bank_of
from pipeline.audio.mel_filters import hann_window
from pipeline.audio.waveform import TRIM_AMIN, TRIM_HOP


def signal_path(features: FeatureConfig, trim: bool) -> SignalPath:
    """Return the path from samples to spectrograms.

    Args:
        features: spectrogram settings.
        trim: whether silence is trimmed, where the settings trim it.
    """
    trim_db = features.trim_db if trim else None
    settings = SignalSettings(
        num_samples=features.num_samples,
        hop_length=features.mel.hop_length,
        window_S=hann_window(features.mel.n_fft),
        bank_MF=filter_bank_of(features.mel),
        min_power=AMIN,
        top_db=features.mel.top_db,
        trim=None if trim_db is None else TrimSettings(trim_db, TRIM_HOP, TRIM_AMIN),
    )
    return SignalPath(settings).eval()

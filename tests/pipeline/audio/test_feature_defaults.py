"""Spectrogram settings that are chosen from the clips."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.audio.feature_defaults import (
    ClipFormat,
    complete_settings,
    describe_choice,
    describe_cropping,
    resolve_features,
)
from pipeline.audio.feature_settings import FeatureSettings, MelSettings
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig, filter_bank_of
from pipeline.data.shard_manifest import open_shards
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from tests.helpers.sounds import tone


def chosen(*formats: tuple[float, float], **settings: float) -> FeatureConfig:
    mel = {name: settings.pop(name) for name in list(settings) if name in MelSettings.model_fields}
    return resolve_features(FeatureSettings(mel=mel, **settings), lambda: [ClipFormat(*f) for f in formats])


def test_clips_of_five_seconds_have_the_defaults_of_feature_config() -> None:
    assert chosen((22_050, 5.0)) == FeatureConfig()
    assert chosen((44_100, 5.0), (44_100, 12.0)) == FeatureConfig()
    assert chosen() == FeatureConfig()  # no file can be read


@pytest.mark.parametrize(
    ("sample_rate", "seconds", "expected"),
    [
        # Spoken digits: windows and hops of speech recognition.
        (8000, 1.0, (256, 80, 64)),
        (16_000, 1.0, (512, 160, 80)),
        # Notes of instruments.
        (22_050, 2.0, (1024, 220, 128)),
        (22_050, 3.5, (1024, 359, 128)),
        (22_050, 10.0, (2048, 512, 128)),
        (48_000, 5.0, (4096, 1115, 128)),
        # A click.
        (22_050, 0.1, (1024, 220, 128)),
        (1000, 0.5, (32, 10, 16)),
    ],
)
def test_window_hop_and_bands_follow_rate_and_length(
    sample_rate: int, seconds: float, expected: tuple[int, int, int]
) -> None:
    mel = chosen(sample_rate=sample_rate, seconds=seconds).mel
    assert (mel.n_fft, mel.hop_length, mel.n_mels) == expected


@pytest.mark.parametrize("sample_rate", [4000, 8000, 11_025, 16_000, 22_050, 32_000, 44_100])
@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0])
def test_no_mel_band_is_empty(sample_rate: int, seconds: float) -> None:
    mel = chosen(sample_rate=sample_rate, seconds=seconds).mel
    assert filter_bank_of(mel).any(axis=1).all()
    assert 0.009 < mel.hop_length / sample_rate < 0.024
    assert 2.5 < mel.n_fft / mel.hop_length < 6


def test_rate_and_length_are_those_of_most_clips() -> None:
    formats = [(16_000, 0.9)] * 96 + [(44_100, 30.0)] * 4
    features = chosen(*formats)
    assert (features.mel.sample_rate, features.seconds) == (16_000, 0.9)
    assert chosen(*[(8000, 1.23)] * 3).seconds == 1.3
    assert chosen((8000, 0.001)).seconds == 0.1
    assert chosen((192_000, 5.0)).mel.sample_rate == 22_050


def test_what_is_given_is_kept_and_files_are_read_only_if_needed() -> None:
    settings = FeatureSettings(seconds=1.0, mel=MelSettings(sample_rate=8000, n_mels=40, top_db=None))
    features = resolve_features(settings, lambda: pytest.fail("files were read"))
    assert features.mel == MelConfig(sample_rate=8000, n_fft=256, hop_length=80, n_mels=40, top_db=None)
    assert describe_choice(settings, features) == "a hop of 10 ms, windows of 32 ms"
    assert describe_choice(features, features) == ""
    assert chosen(n_fft=1024, seconds=5.0, sample_rate=22_050).mel.hop_length == 256
    assert chosen(hop_length=1024, seconds=5.0, sample_rate=22_050).mel.n_fft == 4096


def test_complete_settings_take_the_rest_from_others() -> None:
    others = FeatureConfig(mel=MelConfig(sample_rate=8000, fmax=3000.0, top_db=60.0), seconds=1.0)
    completed = complete_settings(FeatureSettings(mel=MelSettings(n_mels=20)), others)
    expected = MelConfig(sample_rate=8000, n_mels=20, fmax=None, top_db=80.0)
    assert completed == FeatureConfig(mel=expected, seconds=1.0)


def write_words(folder: Path, names: list[str], seconds: float, rate: int = 8000) -> None:
    for label in ("no", "yes"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            samples = np.resize(tone(300 + 50 * number), round(seconds * rate))
            soundfile.write(folder / label / name, samples, rate)


def test_extraction_reports_its_choice_and_keeps_it_in_updates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer clips that are added later do not change what was chosen, so only they are extracted."""
    write_words(tmp_path / "data", ["a.wav", "b.wav", "c.flac"], 0.75)
    (tmp_path / "data" / "no" / "broken.wav").write_bytes(b"RIFF")
    config = ExtractConfig(data=tmp_path / "data", out=tmp_path / "out", copies=0, max_rejected=1.0)
    with caplog.at_level(logging.INFO, logger="melray"):
        first = extract(config, run_in_process)
    assert (
        "spectrograms: clips of 0.8 s, 8000 Hz, a hop of 10 ms, windows of 32 ms, 64 mel bands" in caplog.text
    )
    write_words(tmp_path / "data", ["y.wav", "z.wav"], 2.0)
    second = extract(config, run_in_process)
    assert second.features == first.features == open_shards(tmp_path / "out").features
    assert (first.clips, second.clips) == (6, 10)


def test_cropping_is_described_if_most_clips_lose_half() -> None:
    formats = [ClipFormat(8000, seconds) for seconds in (4.0, 30.0, 60.0)]
    assert describe_cropping(formats, 5.0) == (
        "most files are much longer (median 30 s) than clips, and only 5 s of each are used"
    )
    assert describe_cropping(formats, 15.0) == describe_cropping([], 5.0) == ""


def test_extraction_warns_of_recordings_that_are_cropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_words(tmp_path / "data", ["a.wav", "b.wav"], 12.0)
    config = ExtractConfig(data=tmp_path / "data", out=tmp_path / "out", copies=0)
    extract(config, run_in_process)
    assert "(median 12 s) than clips, and only 5 s of each are used; --window 5 cuts" in caplog.text
    caplog.clear()
    given = config.model_copy(update={"out": tmp_path / "given", "features": FeatureSettings(seconds=5.0)})
    extract(given, run_in_process)
    windows = config.model_copy(update={"out": tmp_path / "windows", "window": 5.0})
    extract(windows, run_in_process)
    assert "only 5 s" not in caplog.text

"""Short clips are repeated until they fill the spectrogram; others stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.classifier import Classifier, ClassifierConfig
from models.repetition import repeat_short_clips, sounding_frames
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.audio.mel import MelConfig
from tests.helpers.sounds import tone

FEATURES = FeatureConfig(mel=MelConfig(sample_rate=8000, n_fft=256, hop_length=80, n_mels=16), seconds=1.0)
NUM_FRAMES = FEATURES.shape[1]


def mels(seconds: float, top_db: float | None = 80.0) -> torch.Tensor:
    """Return the spectrogram of a tone of some seconds, float32 `[shape=(1, n_mels, num_frames)]`."""
    samples = np.resize(tone(440), round(8000 * seconds))
    config = FEATURES.model_copy(update={"mel": FEATURES.mel.model_copy(update={"top_db": top_db})})
    return torch.from_numpy(spectrogram(samples, config))[None].float()


@pytest.mark.parametrize("top_db", [80.0, None])
@pytest.mark.parametrize("seconds", [0.2, 0.43, 0.9])
def test_short_clip_is_repeated(seconds: float, top_db: float | None) -> None:
    mel = mels(seconds, top_db)
    frames = int(sounding_frames(mel))
    assert abs(frames - seconds * 100) <= 3  # windows reach over the end
    repeated = repeat_short_clips(mel)
    assert torch.equal(repeated[:, :, :frames], mel[:, :, :frames])
    assert torch.equal(repeated[:, :, frames:], repeated[:, :, : NUM_FRAMES - frames])
    assert torch.equal(repeat_short_clips(repeated), repeated)


def test_clips_without_padding_stay_as_they_are() -> None:
    for mel in (mels(1.0), mels(1.5), torch.full((2, 4, 30), -7.0)):
        assert torch.equal(repeat_short_clips(mel), mel)


def test_padding_of_generated_clip_is_nearly_silent() -> None:
    mel = mels(0.43)
    frames = int(sounding_frames(mel))
    mel[:, :, frames:] += torch.rand(mel[:, :, frames:].shape, generator=torch.Generator().manual_seed(0))
    assert int(sounding_frames(mel)) == frames


def test_noise_floor_of_a_recording_is_no_padding() -> None:
    rng = np.random.default_rng(0)
    samples = 1e-3 * rng.standard_normal(8000).astype(np.float32)
    samples[:2000] += tone(440)[:2000]
    mel = torch.from_numpy(spectrogram(samples, FEATURES))[None].float()
    assert torch.equal(repeat_short_clips(mel), mel)


def test_click_is_repeated_with_silence() -> None:
    mel = torch.full((1, 4, 80), -80.0)
    mel[:, :, 0] = 0.0
    assert int(sounding_frames(mel)) == 10
    assert int((repeat_short_clips(mel)[0, 0] == 0).sum()) == 8


@pytest.mark.parametrize(("padding", "is_equal"), [("repeat", True), ("silence", False)])
def test_scores_of_classifier_do_not_depend_on_padding(padding: str, is_equal: bool) -> None:
    torch.manual_seed(0)
    config = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=8, padding=padding)
    model = Classifier(config, 16, 3).eval()
    model.set_statistics(torch.full((16,), -40.0), torch.full((16,), 20.0))
    short = mels(0.43)
    with torch.no_grad():
        assert torch.allclose(model(short), model(repeat_short_clips(short))) == is_equal

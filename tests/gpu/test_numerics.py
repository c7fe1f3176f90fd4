"""Precisions of training, and the vocoder, on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import log_mel
from pipeline.audio.synthesize import CLASS_NAMES, synthesize_clip
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import fix_length
from pipeline.classifier import loop as classifier_loop
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.gan import loop as gan_loop
from pipeline.gan.config import TrainGanConfig
from tests.helpers.gpu import CPU, DEVICE, train

PRECISIONS = ("tf32", "bf16", "fp16") if DEVICE.type == "cuda" else ("bf16",)
FEATURES = FeatureConfig()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_classifier_loss_hardly_depends_on_precision(
    precision: str, random_shards: Path, tmp_path: Path
) -> None:
    losses = {}
    for name in ("fp32", precision):
        config = TrainClassifierConfig(
            shards=random_shards,
            run=tmp_path / name,
            val_fraction=0.0,
            epochs=2,
            batch_size=16,
            precision=name,
        )
        losses[name] = [metrics["train_loss"] for metrics in train(classifier_loop, config, DEVICE)]
    assert losses[precision] == pytest.approx(losses["fp32"], abs=0.1)


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "fp16"])
def test_gan_trains_in_every_precision(precision: str, random_shards: Path, tmp_path: Path) -> None:
    config = TrainGanConfig(
        shards=random_shards,
        run=tmp_path / "run",
        val_fraction=0.0,
        epochs=1,
        epoch_steps=10,
        select_best=False,
        samples_per_class=1,
        precision=precision,
    )
    (metrics,) = train(gan_loop, config, DEVICE)
    assert np.isfinite([metrics["discriminator_loss"], metrics["generator_loss"]]).all()


def test_vocoder_error_equals_that_on_cpu() -> None:
    clips = [
        synthesize_clip(name, np.random.default_rng(0), FEATURES.mel.sample_rate) for name in CLASS_NAMES[:6]
    ]
    spectrogram = log_mel(FEATURES.mel)
    mels = np.stack([spectrogram(fix_length(clip, FEATURES.num_samples) * np.float32(0.3)) for clip in clips])
    errors = []
    for device in (CPU, DEVICE):
        samples = Vocoder(FEATURES.mel, device=device)(torch.from_numpy(mels), FEATURES.num_samples).cpu()
        floor = mels.max(axis=(1, 2), keepdims=True) - 80
        output = np.stack([spectrogram(clip) for clip in samples.numpy()])
        errors.append(float(np.abs(np.maximum(output, floor) - np.maximum(mels, floor)).mean()))
    assert errors[1] == pytest.approx(errors[0], rel=0.05)

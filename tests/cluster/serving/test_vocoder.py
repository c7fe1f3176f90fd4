"""Generators that are served with a trained vocoder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from cluster.arguments.common_flags import CommonFlags
from cluster.serving.config import ServeConfig
from cluster.serving.generator_replica import GeneratorReplica, GeneratorSettings
from cluster.serving.messages import ServedClip
from cluster.serving.models import check_vocoder, load_models
from cluster.serving.serve import serve
from models.settings import VocoderConfig
from pipeline.audio.features import FeatureConfig
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generate import generate
from pipeline.io.errors import UserError
from pipeline.training.model_file import VocoderMetadata, create_vocoder, save_model
from tests.helpers.serving import save_generator
from tests.helpers.sounds import SMALL_FEATURES

FEATURES = SMALL_FEATURES.model_copy(update={"mel": SMALL_FEATURES.mel.model_copy(update={"hop_length": 64})})


def save_vocoder(run: Path, features: FeatureConfig = FEATURES) -> Path:
    config = VocoderConfig(channels=8, blocks=1, noise_channels=2)
    torch.manual_seed(0)
    model = create_vocoder(config, features.mel)
    run.mkdir()
    save_model(run, model, VocoderMetadata(model=config, features=features, training={}))
    return run


def test_clip_has_bytes_of_generate(tmp_path: Path) -> None:
    run = save_generator(tmp_path / "run", features=FEATURES)
    vocoder = save_vocoder(tmp_path / "vocoder")
    config = GenerateConfig(run=run, out=tmp_path / "out", label=("tone 1",), count=1, seed=4, device="cpu")
    (name,) = generate(config.model_copy(update={"vocoder": vocoder}))["file"]
    expected = (tmp_path / "out" / name).read_bytes()
    check_vocoder(vocoder, load_models([run]))
    for settings, is_equal in ((GeneratorSettings("cpu", vocoder), True), (GeneratorSettings("cpu"), False)):
        clip = asyncio.run(GeneratorReplica(run, settings).generate("tone 1", 4))
        assert isinstance(clip, ServedClip)
        assert (clip.wav == expected) == is_equal


def test_vocoder_that_no_run_can_use_is_refused(classifier_run: Path, tmp_path: Path) -> None:
    vocoder = save_vocoder(tmp_path / "vocoder")
    generator = save_generator(tmp_path / "generator", features=SMALL_FEATURES)
    with pytest.raises(UserError, match="vocoder: none of the runs is a generator; drop it"):
        serve(ServeConfig(run=(classifier_run,), vocoder=vocoder), CommonFlags())
    with pytest.raises(UserError, match="with hop_length = 64, and those of the generator have 256"):
        serve(ServeConfig(run=(classifier_run, generator), vocoder=vocoder), CommonFlags())
    with pytest.raises(UserError, match=f"--vocoder {generator}"):
        serve(ServeConfig(run=(generator,), vocoder=generator), CommonFlags())

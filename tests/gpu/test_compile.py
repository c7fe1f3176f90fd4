"""torch.compile on a GPU: an epoch of the classifier, and the gradients of a small generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.gan import GanConfig, Generator, sample_latents
from pipeline.training.compile import compile_model
from tests.helpers.gpu import DEVICE, ONE_GPU, melray, relative_difference


@pytest.mark.timeout(170)
def test_compiled_classifier_trains(clips: tuple[Path, Path], tmp_path: Path) -> None:
    flags = ["--run", tmp_path / "run", "--epochs", 1, "--compile", *ONE_GPU]
    result = melray("train-classifier", "--shards", clips[0], *flags, timeout=160)
    assert "without it" not in result.stderr


@pytest.mark.skipif(DEVICE.type != "cuda", reason="PyTorch's compiler for CPUs returns wrong gradients")
def test_compiled_generator_has_gradients_of_plain() -> None:
    torch.manual_seed(0)
    config, shape = GanConfig(channels=(4, 8), latent_dim=8, style_dim=8), (16, 20)
    model = Generator(config, shape, num_classes=3).to(DEVICE)
    compiled = compile_model(model, enabled=True)
    latents = sample_latents(config, shape, 5, torch.Generator()).to(DEVICE)
    label_B = torch.arange(5, device=DEVICE) % 3
    parameters = dict(model.named_parameters())
    gradients = [
        dict(
            zip(
                parameters,
                torch.autograd.grad(network(latents, label_B).square().mean(), parameters.values()),  # type: ignore[arg-type]
                strict=True,
            )
        )
        for network in (compiled, model)
    ]
    assert relative_difference(*gradients) < 1e-2

"""Per-channel energy normalization, compared with its definition as a recursion over frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.cached_tensors import cached_tensor, clear_cached_tensors
from models.classifier import Classifier
from models.pcen import BLOCK_FRAMES, pcen, smoothing_matrix
from models.settings import ClassifierConfig, InputName


def recursive_pcen(mel_MT: np.ndarray, smoothing: float) -> np.ndarray:
    """Compute Wang et al. 2017, equations 1 and 2, in float64."""
    energy = 10 ** (mel_MT.astype(np.float64) / 10) * 2**31
    mean, out = energy[:, 0], np.empty_like(energy)
    for t in range(energy.shape[1]):
        mean = (1 - smoothing) * mean + smoothing * energy[:, t]
        out[:, t] = (energy[:, t] / (1e-6 + mean) ** 0.98 + 2) ** 0.5 - 2**0.5
    return out


@pytest.mark.parametrize("smoothing", [0.025, 0.3, 1.0])
@pytest.mark.parametrize("num_frames", [1, 300, BLOCK_FRAMES, BLOCK_FRAMES + 1, 3 * BLOCK_FRAMES - 5])
def test_pcen_equals_recursion(smoothing: float, num_frames: int) -> None:
    mel_BMT = np.random.default_rng(0).uniform(-100, 40, (2, 5, num_frames)).astype(np.float32)
    actual = pcen(torch.from_numpy(mel_BMT), smoothing).numpy()
    for clip, values in zip(mel_BMT, actual, strict=True):
        np.testing.assert_allclose(values, recursive_pcen(clip, smoothing), rtol=2e-3, atol=2e-3)


def test_levels_beyond_single_precision_are_finite() -> None:
    assert pcen(torch.tensor([[[-40.0, 1e4, -1e4]]]), 0.06).isfinite().all()


def test_each_mean_has_weights_of_one() -> None:
    matrix = smoothing_matrix(200, 0.06, torch.device("cpu"))
    torch.testing.assert_close(matrix.sum(0), torch.ones(200))
    assert (matrix.tril(-1) == 0).all()


def test_values_after_inference_mode_have_gradients() -> None:
    clear_cached_tensors()
    mel_BMT = torch.full((1, 2, 30), -40.0, requires_grad=True)
    with torch.inference_mode():
        expected = pcen(mel_BMT.detach(), 0.06)
    values = pcen(mel_BMT, 0.06)
    values.sum().backward()  # not with a matrix of inference mode
    assert torch.equal(values, expected) and mel_BMT.grad is not None


def test_exported_network_computes_its_matrix() -> None:
    """A graph has no tensor of the process, and the process none of a graph."""
    clear_cached_tensors()
    config = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=4, input="pcen")
    model, mel_BMT = Classifier(config, 16, 3).eval(), torch.full((2, 16, 32), -40.0)
    program = torch.export.export(model, (mel_BMT,))
    assert isinstance(cached_tensor(smoothing_matrix, 32, 0.06, mel_BMT.device).sum().item(), float)
    torch.testing.assert_close(program.module()(mel_BMT), model(mel_BMT))


def test_level_of_a_steady_sound_nearly_vanishes() -> None:
    """Before compression, a factor of 10^4 in energy becomes (10^4)^(1 - 0.98)."""
    values = pcen(torch.stack([torch.full((1, 50), level) for level in (-40.0, 0.0)]), 0.06)
    quiet, loud = (values + 2**0.5) ** 2 - 2
    torch.testing.assert_close(loud / quiet, torch.full((1, 50), 10**0.08), rtol=1e-3, atol=0)


def test_network_sees_spectrograms_in_db_and_their_pcen() -> None:
    config = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=4, input="db+pcen")
    model, mel_BMT = Classifier(config, 16, 3).eval(), 30 * torch.randn(2, 16, 32) - 40
    model.set_statistics(torch.full((16,), -40.0), torch.full((16,), 30.0))
    seen: list[Tensor] = []
    model.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(mel_BMT)
    assert seen[0].shape == (2, 2, 16, 32)
    torch.testing.assert_close(seen[0][:, 0], (mel_BMT + 40) / 30)
    torch.testing.assert_close(seen[0][:, 1], pcen(mel_BMT, config.pcen_smoothing))


@pytest.mark.parametrize("kind", ["pcen", "db+pcen"])
def test_classifier_uses_pcen_also_in_half_precision(kind: InputName) -> None:
    torch.manual_seed(0)
    config = ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=4, input=kind)
    model = Classifier(config, 16, 3).eval()
    assert model.pcen is not None
    mel_BMT = 30 * torch.randn(4, 16, 32) - 40
    std_M, mean_M = torch.std_mean(model.pcen.compress(mel_BMT), (0, 2))
    model.pcen.set_statistics(mean_M, std_M)
    x_BMT = model.pcen(mel_BMT)
    torch.testing.assert_close(x_BMT.mean((0, 2)), torch.zeros(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(x_BMT.std((0, 2)), torch.ones(16), rtol=1e-3, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model.pcen(mel_BMT), x_BMT)
        assert model(mel_BMT).isfinite().all()
    assert {"pcen.mean_M", "pcen.std_M"} <= set(model.state_dict())

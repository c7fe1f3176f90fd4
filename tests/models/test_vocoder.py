"""Vocoder network: alignment of its output, independence of the clips of a batch, and its loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.settings import VocoderConfig
from models.vocoder import VocoderLoss, VocoderNetwork
from pipeline.audio.mel import MelConfig, filter_bank_of

MEL = MelConfig(sample_rate=8000, n_fft=256, hop_length=64, n_mels=16)
CONFIG = VocoderConfig(channels=16, blocks=2, noise_channels=2)
FRAMES = 30


def make_network() -> VocoderNetwork:
    torch.manual_seed(0)
    return VocoderNetwork(CONFIG, torch.from_numpy(filter_bank_of(MEL)), MEL.n_fft, MEL.hop_length).eval()


def make_input(clips: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mel = -80 * torch.rand(clips, MEL.n_mels, FRAMES, generator=generator)
    return mel, torch.randn(clips, CONFIG.noise_channels, FRAMES, generator=generator)


def make_loss() -> VocoderLoss:
    return VocoderLoss(torch.from_numpy(filter_bank_of(MEL)), MEL.n_fft, MEL.hop_length, [128, 64])


def sound(frequency: float, phase: float = 0.0) -> Tensor:
    """Return a sine in noise."""
    time = torch.arange(4000) / MEL.sample_rate
    noise = 0.02 * torch.randn(4000, generator=torch.Generator().manual_seed(2))
    return (0.5 * torch.sin(2 * math.pi * frequency * time + phase) + noise)[None]


def test_samples_span_from_the_first_frame_to_the_last() -> None:
    samples = make_network()(*make_input(2))
    assert samples.shape == (2, (FRAMES - 1) * MEL.hop_length) and samples.isfinite().all()


@torch.inference_mode()
def test_clips_of_a_batch_do_not_depend_on_each_other() -> None:
    network, (mel, noise) = make_network(), make_input(3)
    together = network(mel, noise)
    for i in range(3):
        torch.testing.assert_close(
            together[i : i + 1], network(mel[i : i + 1], noise[i : i + 1]), atol=1e-5, rtol=1e-4
        )


def test_silent_spectrogram_gives_silence_and_finite_gradients() -> None:
    network, (mel, noise) = make_network(), make_input(1)
    samples = network(torch.full_like(mel, -100.0), noise)
    assert float(samples.detach().abs().max()) < 1e-2
    make_loss()(samples, torch.zeros_like(samples)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_weights_alone_are_saved() -> None:
    network = make_network()
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_loss_hears_frequency_but_not_phase() -> None:
    loss, real = make_loss(), sound(1000)
    assert float(loss(real, real)) == 0.0
    shifted, quieter, other = (
        float(loss(samples, real)) for samples in (sound(1000, 1.0), 0.8 * real, sound(1500))
    )
    assert shifted < 0.3 * other and quieter < 0.5 * other
    assert float(loss(0.8 * real.repeat(2, 1), real.repeat(2, 1))) == pytest.approx(quieter)

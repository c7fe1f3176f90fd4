"""Generation of clips by a trained generator, each from its own seed and independent of all others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.gan import Generator, Latents, sample_latents
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram
from pipeline.audio.mel import AMIN, MelConfig
from pipeline.audio.vocoder import Vocoder, normalize_loudness

# One or several non-negative numbers.
Seed = Sequence[int]


def latents_from_seed(model: Generator, seed: Seed) -> Latents:
    """Sample the latents of one clip from its seed."""
    rng = torch.Generator().manual_seed(int(np.random.SeedSequence(list(seed)).generate_state(1)[0]))
    return sample_latents(model.config, model.shape, 1, rng)


def slerp(first: Latents, second: Latents, fraction: float) -> Latents:
    """Interpolate spherically from `first` (fraction 0) to `second` (fraction 1); keep the noise of `first`.

    Spherical because normal vectors are concentrated near a sphere (White 2016): linear interpolation would
    pass through vectors shorter than any that the generator was trained on.
    """
    a, b = first.z_BZ.double(), second.z_BZ.double()
    lengths = [z.norm(dim=1, keepdim=True) for z in (a, b)]
    directions = [z / length for z, length in zip((a, b), lengths, strict=True)]
    angle = torch.arccos((directions[0] * directions[1]).sum(dim=1, keepdim=True).clamp(-1, 1))
    if float(angle.min()) < 1e-4:
        z = torch.lerp(a, b, fraction)
    else:
        direction = (
            torch.sin((1 - fraction) * angle) * directions[0] + torch.sin(fraction * angle) * directions[1]
        ) / torch.sin(angle)
        z = direction * torch.lerp(lengths[0], lengths[1], fraction)
    return Latents(z.float(), first.noise_BMT)


@torch.no_grad()
def generate_mel(model: Generator, latents: Latents, label: int, config: MelConfig) -> np.ndarray:
    """Generate a spectrogram in dB, float32 `[shape=(n_mels, num_frames)]`, with the range of real ones.

    Uses a batch of one and float32, so that the values do not depend on other clips.
    """
    device = model.mel_mean_M.device
    mel = model(latents.to(device), torch.tensor([label], device=device))[0].cpu().numpy()
    floor = (
        10 * np.log10(AMIN) if config.top_db is None else max(10 * np.log10(AMIN), mel.max() - config.top_db)
    )
    return np.maximum(mel, np.float32(floor))


def mel_to_samples(
    mel: np.ndarray, features: FeatureConfig, vocoder: Vocoder, seed: int = 0, normalize: bool = True
) -> np.ndarray:
    """Resynthesize a clip's samples `[shape=(num_samples,)]`, float32, with a peak of at most 0.97.

    Args:
        mel: spectrogram in dB `[shape=(n_mels, num_frames)]`.
        features: spectrogram settings.
        vocoder: vocoder with the same mel settings.
        seed: seed of the initial phases.
        normalize: normalize the loudness; otherwise keep the level of the spectrogram.
    """
    samples = vocoder(torch.from_numpy(mel)[None], features.num_samples, seed)
    return (normalize_loudness(samples, features.mel.sample_rate) if normalize else samples)[0].cpu().numpy()


def roundtrip_mel(wav: bytes, features: FeatureConfig) -> np.ndarray:
    """Extract the spectrogram of a generated audio file, in dB, float32 `[shape=(n_mels, num_frames)]`."""
    return spectrogram(load_clip(wav, features), features).astype(np.float32)

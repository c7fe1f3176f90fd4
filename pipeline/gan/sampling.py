"""From a trained generator to clips: each from its own seed, the same whatever else is drawn beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.gan import Generator, Latents, sample_latents
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram
from pipeline.audio.mel import AMIN, MelConfig
from pipeline.audio.vocoder import Vocoder, normalize_loudness

Seed = Sequence[int]


def latents_from_seed(model: Generator, seed: Seed) -> Latents:
    """What one clip is drawn from: a seed of one or several numbers, not negative."""
    rng = torch.Generator().manual_seed(int(np.random.SeedSequence(list(seed)).generate_state(1)[0]))
    return sample_latents(model.config, model.shape, 1, rng)


def slerp(first: Latents, second: Latents, share: float) -> Latents:
    """Latents on the way from `first` (share 0) to `second` (share 1), with the texture of the first.

    The way lies on the sphere that normal vectors lie on (White 2016): a straight one would pass through vectors too short
    for the generator to know.
    """
    a, b = first.z_BZ.double(), second.z_BZ.double()
    lengths = [z.norm(dim=1, keepdim=True) for z in (a, b)]
    directions = [z / length for z, length in zip((a, b), lengths, strict=True)]
    angle = torch.arccos((directions[0] * directions[1]).sum(dim=1, keepdim=True).clamp(-1, 1))
    if float(angle.min()) < 1e-4:
        z = torch.lerp(a, b, share)
    else:
        turned = (
            torch.sin((1 - share) * angle) * directions[0] + torch.sin(share * angle) * directions[1]
        ) / torch.sin(angle)
        z = turned * torch.lerp(lengths[0], lengths[1], share)
    return Latents(z.float(), first.grain_BMT)


@torch.no_grad()
def generate_mel(model: Generator, latents: Latents, label: int, config: MelConfig) -> np.ndarray:
    """One clip's spectrogram in dB, float32 `[shape=(n_mels, num_frames)]`, within the range that real ones have.

    Drawn alone and in float32, so that its values do not depend on the clips beside it.
    """
    device = model.mel_mean_M.device
    mel = model(latents.to(device), torch.tensor([label], device=device))[0].cpu().numpy()
    floor = (
        10 * np.log10(AMIN) if config.top_db is None else max(10 * np.log10(AMIN), mel.max() - config.top_db)
    )
    return np.maximum(mel, np.float32(floor))


def mel_to_samples(
    mel: np.ndarray, features: FeatureConfig, vocoder: Vocoder, seed: int = 0, raised: bool = True
) -> np.ndarray:
    """A clip's samples `[shape=(num_samples,)]`, float32, with no sample above 0.97.

    Args:
        mel: in dB `[shape=(n_mels, num_frames)]`.
        features: how spectrograms are made.
        vocoder: of the same kind.
        seed: of the phases.
        raised: to a level at which a listener hears it; otherwise it has the one that the spectrogram implies.
    """
    samples = vocoder(torch.from_numpy(mel)[None], features.num_samples, seed)
    return (normalize_loudness(samples, features.mel.sample_rate) if raised else samples)[0].cpu().numpy()


def roundtrip_mel(wav: bytes, features: FeatureConfig) -> np.ndarray:
    """The spectrogram that extraction makes of a drawn clip's file, in dB, float32 `[shape=(n_mels, num_frames)]`."""
    return spectrogram(load_clip(wav, features), features).astype(np.float32)

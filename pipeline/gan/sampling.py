"""Generation of clips by a trained generator, each from its own seed and independent of all others.

On a CPU clips are generated one by one: a seed gives the same bits whatever else is generated. On a GPU they
are generated in batches, and the last bits of their values may depend on the batch and on the card.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from models.device_batches import device_batch_size, to_device
from models.gan import Generator, Latents, sample_latents
from pipeline.audio.features import FeatureConfig, load_clip, spectrogram
from pipeline.audio.loudness import normalize_loudness
from pipeline.audio.mel import AMIN, MelConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.data.loader import batch_slices
from pipeline.training.optim import set_float32_precision

# One or several non-negative numbers.
Seed = Sequence[int]
MAX_BATCH_SIZE = 256


def latents_from_seed(model: Generator, seed: Seed) -> Latents:
    """Sample the latents of one clip from its seed."""
    rng = torch.Generator().manual_seed(int(np.random.SeedSequence(list(seed)).generate_state(1)[0]))
    return sample_latents(model.config, model.shape, 1, rng)


def latents_from_seeds(model: Generator, seeds: Sequence[int]) -> Latents:
    """Sample the latents of several clips, each from its own seed."""
    return concatenate([latents_from_seed(model, [seed]) for seed in seeds])


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute with one thread on a CPU, so that a seed gives the same bits whatever the number of CPUs."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def concatenate(latents: Sequence[Latents]) -> Latents:
    """Concatenate the latents of several clips."""
    return Latents(
        torch.cat([clip.z_BZ for clip in latents]), torch.cat([clip.noise_BMT for clip in latents])
    )


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
def generate_mels(model: Generator, latents: Latents, labels: np.ndarray, config: MelConfig) -> np.ndarray:
    """Generate spectrograms on the generator's device, in float32, with the range of real ones.

    Args:
        model: generator in evaluation mode.
        latents: latents of N clips, on the CPU.
        labels: their classes `[shape=(N,)]`.
        config: settings of the spectrograms.

    Returns:
        In dB `[shape=(N, n_mels, num_frames)]`.
    """
    device = model.mel_mean_M.device
    if device.type == "cuda":
        set_float32_precision("fp32")
    batches = []
    for batch in batch_slices(len(labels), generator_batch_size(model, device)):
        labels_B = to_device(np.asarray(labels[batch], np.int64), device)
        batches.append(model(latents[batch].to(device), labels_B))
    mels = torch.cat(batches).cpu().numpy()
    floor = 10 * np.log10(AMIN)
    if config.top_db is None:
        return np.maximum(mels, np.float32(floor))
    return np.maximum(mels, np.maximum(mels.max(axis=(1, 2), keepdims=True) - config.top_db, floor))


def generator_batch_size(model: Generator, device: torch.device) -> int:
    """Return the number of clips that are generated at once."""
    # About eight values of four bytes at a time: those of a spectrogram, and those of the finest feature map.
    values = model.shape[0] * model.shape[1] * (1 + model.config.channels[0] / model.config.patch**2)
    return device_batch_size(32 * values, device, cpu=1, most=MAX_BATCH_SIZE)


def generate_mel(model: Generator, latents: Latents, label: int, config: MelConfig) -> np.ndarray:
    """Generate one spectrogram `[shape=(n_mels, num_frames)]`, as `generate_mels`."""
    return generate_mels(model, latents, np.array([label]), config)[0]


def mels_to_samples(
    mels: np.ndarray,
    features: FeatureConfig,
    vocoder: Vocoder,
    seeds: Sequence[int],
    normalize: bool = True,
) -> np.ndarray:
    """Resynthesize the samples of clips `[shape=(N, num_samples)]`, float32, with a peak of at most 0.97.

    Args:
        mels: spectrograms in dB `[shape=(N, n_mels, num_frames)]`.
        features: spectrogram settings.
        vocoder: vocoder with the same mel settings.
        seeds: seed of the initial phases of each clip.
        normalize: normalize the loudness; otherwise keep the level of the spectrogram.
    """
    samples = vocoder(torch.from_numpy(mels), features.num_samples, seeds)
    return (normalize_loudness(samples, features.mel.sample_rate) if normalize else samples).cpu().numpy()


def roundtrip_mel(wav: bytes, features: FeatureConfig) -> np.ndarray:
    """Extract the spectrogram of a generated audio file, in dB, float32 `[shape=(n_mels, num_frames)]`."""
    return spectrogram(load_clip(wav, features), features).astype(np.float32)

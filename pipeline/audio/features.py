"""One clip to its spectrograms: the whole signal path between a file and the rows of a shard."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydantic import Field, model_validator

from models.config import Config, diff_settings
from pipeline.audio.augment import RECIPES, row_rng
from pipeline.audio.decode import AudioDecodeError, decode, fix_length, trim_silence
from pipeline.audio.mel import MelConfig, log_mel
from pipeline.io.storage import read_if_remote

# Part of the fingerprint: raise it when the same settings come to give other values.
SIGNAL_VERSION = 2
# A recipe works on at most this much more than a clip: enough for what a faster speed uses up.
MARGIN = 1.5


class FeatureConfig(Config):
    """What a spectrogram is: the part that training, prediction and generation must agree on."""

    mel: MelConfig = MelConfig()
    """The spectrogram."""
    seconds: float = Field(5.0, gt=0, le=600)
    """Length of every clip, in seconds: longer ones are cropped, shorter ones get silence at the end."""
    trim_db: float | None = Field(60.0, gt=0)
    """Silence at both ends, this many dB below the loudest part, is cut; none keeps it."""

    @property
    def num_samples(self) -> int:
        """Samples of a clip."""
        return round(self.seconds * self.mel.sample_rate)

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_mels, num_frames)` of a spectrogram."""
        return self.mel.n_mels, self.mel.num_frames(self.num_samples)

    @property
    def fingerprint(self) -> str:
        """Equal for equal spectrograms: 16 hexadecimal digits of the settings and the signal code's version."""
        text = json.dumps([SIGNAL_VERSION, self.to_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def feature_mismatch(mine: FeatureConfig, theirs: FeatureConfig, whose: str) -> str | None:
    """`key = value (<whose> other)` for the first setting in which spectrograms differ; none where they are of one kind."""
    if mine.fingerprint == theirs.fingerprint:
        return None
    changes = diff_settings(mine.to_dict(), theirs.to_dict(), "") or ["another version of the signal code"]
    return changes[0].replace("now", whose)


class AugmentConfig(Config):
    """Waveform augmentation at extraction."""

    copies: int = Field(1, ge=0, le=100)
    """Augmented copies of each clip, beside the clip itself."""
    recipes: tuple[str, ...] = tuple(RECIPES)
    """What a copy may be, each with equal chance."""
    seed: int = 42
    """Seed of all draws; a row's draw depends on it, the clip and the number of the copy only."""

    @model_validator(mode="after")
    def _known_recipes(self) -> AugmentConfig:
        unknown = [name for name in self.recipes if name not in RECIPES]
        if unknown or not self.recipes:
            raise ValueError(f"unknown recipe {unknown or 'list ()'}; known: {', '.join(RECIPES)}")
        return self


@dataclass(frozen=True)
class Spectrogram:
    """One row of a clip: `mel` is in dB, float16 `[shape=(n_mels, num_frames)]`; copy 0 is the clip itself."""

    copy: int
    strength: float
    recipe: str
    mel: np.ndarray


def load_clip(source: str | os.PathLike[str] | bytes, config: FeatureConfig) -> np.ndarray:
    """Decoded, resampled and trimmed samples `[shape=(num_samples,)]` of any length.

    Raises:
        BadAudio: when the file holds no usable sound.
        OSError: when a store that holds the file can't be asked.
    """
    try:
        data = read_if_remote(source)
    except FileNotFoundError:
        raise AudioDecodeError("no such file") from None
    samples = decode(data, config.mel.sample_rate)
    return samples if config.trim_db is None else trim_silence(samples, config.trim_db)


def spectrogram(
    samples: np.ndarray, config: FeatureConfig, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Log-mel of samples brought to the clip length, in dB, float16 `[shape=(n_mels, num_frames)]`."""
    return log_mel(config.mel)(fix_length(samples, config.num_samples, rng)).astype(np.float16)


def split_windows(samples: np.ndarray, config: FeatureConfig, most: int) -> list[np.ndarray]:
    """A clip cut into windows of the clip length, evenly spread from its first sample to its last.

    As few as cover it, but at most `most`; one is its middle.
    """
    count = min(most, -(-samples.size // config.num_samples))
    if count <= 1:
        return [fix_length(samples, config.num_samples)]
    starts = np.linspace(0, samples.size - config.num_samples, count).round().astype(int)
    return [samples[start : start + config.num_samples] for start in starts]


def spectrogram_rows(
    source: str | os.PathLike[str] | bytes, clip_id: str, features: FeatureConfig, augment: AugmentConfig
) -> Iterator[Spectrogram]:
    """The clip's spectrogram, then that of each augmented copy.

    Raises:
        BadAudio: before the first row, when the file holds no usable sound.
    """
    samples = load_clip(source, features)
    yield Spectrogram(0, 0.0, "unchanged", spectrogram(samples, features))
    for copy in range(1, augment.copies + 1):
        rng = row_rng(augment.seed, clip_id, copy)
        recipe = augment.recipes[int(rng.integers(len(augment.recipes)))]
        strength = 1.0 - float(rng.random())
        changed = RECIPES[recipe](
            _augmentation_window(samples, recipe, features, rng), features.mel.sample_rate, strength, rng
        )
        yield Spectrogram(copy, strength, recipe, spectrogram(changed, features, rng))


def _augmentation_window(
    samples: np.ndarray, recipe: str, features: FeatureConfig, rng: np.random.Generator
) -> np.ndarray:
    """The stretch of a long clip that a recipe works on; a time shift moves the sound within its final length."""
    if recipe == "time_shift":
        return fix_length(samples, features.num_samples, rng)
    return (
        samples
        if samples.size <= (limit := int(MARGIN * features.num_samples))
        else fix_length(samples, limit, rng)
    )

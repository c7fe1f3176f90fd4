"""What a trained model that is ready for use in this process states about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

from pipeline.audio.features import FeatureConfig
from pipeline.io.text import plural
from pipeline.training.model_file import ModelMetadata

M = TypeVar("M", bound=ModelMetadata)


class LoadedModel(Generic[M]):
    """A trained model with its metadata."""

    def __init__(self, run: Path, metadata: M):
        """Take the run that the model is from."""
        self._run = run
        self.metadata = metadata
        """Classes, settings of spectrograms, and facts about the training."""

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self._run.name}: {plural(len(self.class_names), 'class')}, "
            f"clips of {self.seconds:g} s at {self.sample_rate:,} Hz>"
        )

    @property
    def features(self) -> FeatureConfig:
        """Settings of the spectrograms."""
        return self.metadata.features

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes, in the order of the model's outputs."""
        return self.metadata.class_names

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model's clips in Hz; other audio is converted to it."""
        return self.metadata.features.mel.sample_rate

    @property
    def seconds(self) -> float:
        """Clip length of the model in seconds."""
        return self.metadata.features.seconds

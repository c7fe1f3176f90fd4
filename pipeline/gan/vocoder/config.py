"""Settings of vocoder training."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from models.settings import VocoderConfig
from pipeline.training.config import TrainingConfig


class TrainVocoderConfig(TrainingConfig):
    """Train a vocoder on the recordings of a dataset; `generate --vocoder` uses it. An experiment: the error
    of its spectra is lower than that of Griffin-Lim alone, but noise sounds smoother than in recordings.

    Checkpoints are written after epochs only, which are short.
    """

    min_classes: ClassVar[int] = 1
    learns_classes: ClassVar[bool] = False

    vocoder: VocoderConfig = VocoderConfig()
    """Architecture of the network."""
    epochs: int = Field(30, ge=1)
    """Number of epochs, each of --epoch-steps."""
    epoch_steps: int = Field(250, ge=1)
    """Steps of an epoch, after which a checkpoint is written."""
    batch_size: int = Field(8, ge=1)
    """Global batch size, summed over workers."""
    segment_seconds: float = Field(2.0, gt=0)
    """Length of the random segments of clips that are trained on, at most that of the clips."""
    learning_rate: float = Field(1e-3, gt=0, le=1)
    """Peak learning rate (AdamW), which decays to zero (cosine)."""
    warmup_steps: int = Field(200, ge=0)
    """Steps of linear warmup of the learning rate, at most a fifth of all steps."""
    level_db: float = Field(30.0, ge=0, le=80)
    """Segments are attenuated by a random amount of up to this: quiet parts of clips are as quiet."""
    max_grad_norm: float = Field(10.0, gt=0)
    """Maximum gradient norm."""
    max_clips: int = Field(2000, ge=1)
    """Clips that are trained on, whose samples are in memory; of more, evenly spaced ones."""

    @model_validator(mode="after")
    def _check_supported(self) -> Self:
        if self.precision == "fp16":
            raise ValueError(
                "--precision fp16: too coarse for the phases of a vocoder; use bf16, tf32 or fp32"
            )
        if self.compile:
            raise ValueError("--compile: the network of a vocoder is not compiled; drop it")
        if self.data_placement == "partitioned":
            raise ValueError("--data-placement partitioned: train-vocoder reads audio files; drop it")
        if self.batch_size < self.workers:
            raise ValueError(
                f"--batch-size {self.batch_size}: less than one segment for each of --workers {self.workers}"
            )
        return self

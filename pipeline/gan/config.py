"""Settings of GAN training and of generation."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from models.config import Seed
from models.settings import AdaConfig, GanAugmentConfig, GanConfig, LossName
from pipeline.distributed.devices import DeviceConfig
from pipeline.io.storage import PathOrURI
from pipeline.training.config import TrainingConfig


class TrainGanConfig(TrainingConfig):
    """Train a conditional GAN on shards."""

    min_classes: ClassVar[int] = 1

    init_from: PathOrURI | None = None
    """Folder of a GAN whose networks, after its last epoch, the training starts from: for more epochs, or for
    other sounds. Classes are matched by name."""
    augmentation_strength: float = Field(0.0, ge=0, le=1)
    """Also train on augmented copies up to this strength; 0 uses original clips only."""
    gan: GanConfig = GanConfig()
    """Architecture of generator and discriminator."""
    loss: LossName = "relativistic"
    """Adversarial loss: relativistic pairing (R3GAN), hinge, or non-saturating (Goodfellow et al. 2014)."""
    class_weight: float = Field(0.3, ge=0)
    """Weight of the auxiliary classification loss of both networks (Odena et al. 2017, AC-GAN), which
    separates the classes earlier in training than the projection discriminator alone."""
    class_final_factor: float = Field(1.0, ge=0, le=1)
    """Fraction of that weight left at the end (linear decay): the loss favors clips that are easy to
    classify, at the cost of variety."""
    diversity_weight: float = Field(2.0, ge=0)
    """Weight of the diversity loss, which penalizes generated clips of a class that are more similar than
    real ones (against mode collapse)."""
    penalty_weight: float = Field(1.0, ge=0)
    """Weight (gamma) of the gradient penalties R1 and R2 at the start of training; higher values restrain
    the discriminator more."""
    penalty_final_factor: float = Field(0.1, gt=0, le=1)
    """Fraction of that weight left at the end (linear decay)."""
    penalty_interval: int = Field(8, ge=1)
    """Steps between gradient penalties, whose weight is scaled accordingly (Karras et al. 2020, lazy
    regularization)."""
    augment: GanAugmentConfig = GanAugmentConfig()
    """Augmentation of real and generated clips before the discriminator."""
    ada: AdaConfig = AdaConfig()
    """Adaptive augmentation probability."""
    epochs: int = Field(60, ge=1)
    """Number of epochs; small datasets are iterated several times per epoch."""
    epoch_steps: int = Field(100, ge=1)
    """Minimum number of steps per epoch."""
    batch_size: int = Field(16, ge=2)
    """Global batch size, summed over workers."""
    generator_lr: float = Field(1e-3, gt=0, le=1)
    """Peak learning rate of the generator (Adam with beta1 = 0; Kingma and Ba 2015)."""
    discriminator_lr: float = Field(1e-3, gt=0, le=1)
    """Peak learning rate of the discriminator."""
    final_lr_factor: float = Field(0.1, gt=0, le=1)
    """Final learning rates as a fraction of the peak (cosine decay)."""
    warmup_steps: int | None = Field(None, ge=0)
    """Steps of linear warmup of both learning rates (default: 20, at most a fifth of the steps)."""
    max_grad_norm: float = Field(50.0, gt=0)
    """Maximum gradient norm of each network: a safeguard against rare exploding steps, far above typical
    values."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """Decay of the EMA generator, which is evaluated and saved; 0 uses the raw weights."""
    sampling: Literal["uniform", "balanced"] = "balanced"
    """uniform: every row once per pass; balanced: equal probability per class."""
    sample_every: int = Field(5, ge=1)
    """Save and score samples (audio and images) every N epochs; the best-scoring epoch is kept."""
    samples_per_class: int = Field(4, ge=1, le=32)
    """Samples per class, from the same latents every time."""
    select_best: bool = True
    """Train a reference classifier first and use it to select the best epoch; otherwise keep the last one."""
    monitor: Literal["frechet", "class_accuracy"] = "frechet"
    """Score of that classifier by which the best epoch is selected."""
    max_rollbacks: int = Field(3, ge=0)
    """Maximum number of rollbacks: after a collapse, training resumes from the last good checkpoint at half
    the learning rates."""

    @property
    def initial_run(self) -> Path | None:
        return self.init_from

    @model_validator(mode="after")
    def _check_precision(self) -> Self:
        if self.precision == "fp16":
            raise ValueError(
                "--precision fp16: the gradient penalties of the GAN leave its range; use bf16, tf32 or fp32"
            )
        return self


class GenerateConfig(DeviceConfig):
    """Generate new sounds of chosen classes."""

    run: PathOrURI
    """Folder of a trained GAN."""
    out: PathOrURI
    """Output folder for audio, spectrogram images and generated.csv. Rerun to resume."""
    overwrite: bool = False
    """Replace what another command, or one with other settings, wrote to the output folder."""
    label: tuple[str, ...] = ()
    """Classes to generate (default: all)."""
    count: int = Field(8, ge=1)
    """Clips per class."""
    seed: Seed = 1
    """Seed of the first clip of each class; later clips use consecutive seeds. The same seed gives the same
    files; on GPUs their last bits may differ."""
    interpolate_to: Seed | None = None
    """Interpolate in latent space from --seed to this seed."""
    min_confidence: float = Field(0.0, ge=0, lt=1)
    """Resample a clip up to 10 times until the reference classifier reaches this confidence; otherwise drop
    it. Interpolated clips are not resampled."""
    iterations: int = Field(32, ge=1, le=1000)
    """Griffin-Lim iterations: more match the spectrogram better. For generated clips 8 are about as good."""
    normalize: bool = True
    """Amplify quiet clips to -26 dB RMS. Without it, and with --as-shards, clips have the level of the
    recordings of their class."""
    as_shards: bool = False
    """Write shards for `train-classifier --extra-shards` instead of audio files."""
    workers: int | None = Field(None, ge=1)
    """Parallel workers (default: one per CPU or GPU for 100 clips or more, otherwise this process alone)."""

"""All settings of a GAN's training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.gan import GanConfig
from models.gan_augment import AdaConfig, GanAugmentConfig
from models.gan_losses import LossName
from pipeline.training.config import TrainingConfig


class TrainGanConfig(TrainingConfig):
    """From shards to a generator of new sounds."""

    augmentation_strength: float = Field(0.0, ge=0, le=1)
    """Learns from the augmented copies up to this strength too; 0 from the clips themselves alone, which are what is to be drawn."""
    gan: GanConfig = GanConfig()
    """Both networks."""
    loss: LossName = "relativistic"
    """What the networks play for: relativistic pairs (R3GAN), hinge, or the non-saturating loss of 2014."""
    class_weight: float = Field(0.3, ge=0)
    """Weight of both networks' class loss: the discriminator also learns to name the class of real clips, and the generator to be
    named (Odena et al. 2017, AC-GAN); beside the projection it tells classes apart sooner."""
    diversity_weight: float = Field(2.0, ge=0)
    """Weight of a loss on two clips of a class that are more alike than real ones are: against a generator with one clip a class."""
    penalty_weight: float = Field(1.0, ge=0)
    """Weight (gamma) of the gradient penalties R1 and R2, at its highest; more holds the discriminator back."""
    penalty_final_factor: float = Field(0.1, gt=0, le=1)
    """Part of that weight which is left at the end: the surer the generator, the finer the discriminator may look."""
    penalty_interval: int = Field(8, ge=1)
    """Steps between two gradient penalties, whose weight grows with it (Karras et al. 2020, lazy regularisation)."""
    augment: GanAugmentConfig = GanAugmentConfig()
    """What may happen to a clip before the discriminator sees it."""
    ada: AdaConfig = AdaConfig()
    """How often that happens."""
    epochs: int = Field(60, ge=1)
    """Passes over the training rows; a small set is passed over several times in each."""
    epoch_steps: int = Field(100, ge=1)
    """Steps of an epoch, at least."""
    batch_size: int = Field(16, ge=2)
    """Clips of a step, over all workers together."""
    generator_lr: float = Field(1e-3, gt=0, le=1)
    """Highest learning rate of the generator's Adam (Kingma and Ba 2015), without momentum."""
    discriminator_lr: float = Field(1e-3, gt=0, le=1)
    """That of the discriminator's."""
    final_lr_factor: float = Field(0.1, gt=0, le=1)
    """Part of both rates which is left at the end, after half a cosine."""
    warmup_steps: int = Field(20, ge=0)
    """Steps of linear rise of both rates."""
    max_grad_norm: float = Field(50.0, gt=0)
    """Greatest norm of a network's gradient: far above the usual, a belt for the rare step that would throw it off."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """Of the averaged generator, which is judged and kept; 0 keeps the raw one."""
    sampling: Literal["uniform", "balanced"] = "balanced"
    """As many draws with equal chance for each class, or every row once a pass."""
    sample_every: int = Field(5, ge=1)
    """Epochs between two sets of samples, each as sounds and as a picture, and judged: the best one's weights are kept."""
    samples_per_class: int = Field(4, ge=1, le=32)
    """Samples of each class, always from the same latents."""
    select_best: bool = True
    """First train a classifier that recognises the samples and so chooses the best epoch; without it the last is kept."""
    max_rollbacks: int = Field(3, ge=0)
    """Collapses after each of which the training goes back to its last good checkpoint, at half the rates; one more ends it."""

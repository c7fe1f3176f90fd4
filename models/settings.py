"""Settings of networks, losses and batch augmentation, without torch: a command line is parsed without it."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from models.config import Config

ArchName = Literal["cnn", "resnet-se", "mobilenet"]
# Start of the names of architectures that are networks of timm.
TIMM_PREFIX = "timm:"
InputName = Literal["db", "pcen", "db+pcen"]
NormName = Literal["batch", "group", "sync"]
# Settings of a classifier of before there was a choice, which its files lack.
FORMER_SETTINGS = {"padding": "silence", "modulation": False, "texture": False}
LossName = Literal["relativistic", "hinge", "non-saturating"]
# Above this probability, augmentations leak into the generated clips (Karras et al. 2020, figure 4).
MAX_PROBABILITY = 0.8


class ClassifierConfig(Config):
    """Classifier architecture."""

    arch: str = "cnn"
    """cnn: plain convolutions; resnet-se: residual units with squeeze-excitation; mobilenet: inverted
    residual units; timm:NAME: a network of timm, if that is installed, such as timm:resnet18."""
    pretrained: bool = False
    """Networks of timm: start from the weights that timm has for them, which are downloaded (a file:
    --init-from)."""
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((32, 64, 128, 256), min_length=1, max_length=6)
    """Channels of each block; the stem and every block halve both axes. Networks of timm have their own."""
    convs_per_block: int = Field(2, ge=1, le=4)
    """Convolutions per block; resnet-se and mobilenet: two for each unit."""
    embedding_dim: int = Field(256, ge=1)
    """Size of the embedding that the head of the network classifies."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Dropout probability in the head."""
    padding: Literal["repeat", "silence"] = "repeat"
    """repeat: short clips are repeated until they fill the spectrogram; silence: they stay zero-padded."""
    input: InputName = "db"
    """db: spectrograms in dB; pcen: with per-channel energy normalization (Wang et al. 2017), an automatic
    gain control of each mel band, which also weakens steady sounds; db+pcen: both, as two channels."""
    pcen_smoothing: float = Field(0.06, gt=0, le=1)
    """Weight of a frame in the mean energy by which PCEN divides: 0.06 averages over 0.4 s at hops of 23 ms,
    0.025 at hops of 10 ms."""
    modulation: bool = True
    """The network also sees the modulation spectrum of the clip (Greenberg and Kingsbury 1997), in which
    sounds that repeat, such as rotors, engines and clocks, have lines."""
    texture: bool = True
    """A second head sees statistics over time of the levels of the clip (McDermott and Simoncelli 2011), by
    which rain, surf, fire and engines are recognized; probabilities are a mean of both heads."""
    norm: NormName = "batch"
    """batch: batch norm over the rows of each worker; sync: over those of all workers, for workers with few
    rows each; group: group norm, independent of rows and workers. Networks of timm have their own."""

    @property
    def input_channels(self) -> int:
        """Number of channels of the network's input."""
        return len(self.input.split("+"))

    @property
    def timm_name(self) -> str | None:
        """Name of the network in timm, if it is one of timm's."""
        return self.arch.removeprefix(TIMM_PREFIX) if self.arch.startswith(TIMM_PREFIX) else None

    @field_validator("arch")
    @classmethod
    def _check_arch(cls, value: str) -> str:
        names = get_args(ArchName)
        if value in names or value.removeprefix(TIMM_PREFIX) not in ("", value):
            return value
        similar = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
        hint = f"did you mean {similar[0]}?" if similar else f"choose {', '.join(names)} or timm:NAME"
        raise ValueError(f"unknown architecture; {hint}")

    @model_validator(mode="after")
    def _check_timm(self) -> Self:
        if self.timm_name is None and self.pretrained:
            raise ValueError(f"pretrained: {self.arch} has no pretrained weights, only networks of timm")
        if self.timm_name is not None and self.norm != "batch":
            raise ValueError(f"norm {self.norm}: {self.arch} has norms of its own")
        return self

    @model_validator(mode="after")
    def _check_units(self) -> Self:
        if self.arch in ("resnet-se", "mobilenet") and self.convs_per_block % 2:
            raise ValueError(f"convs_per_block {self.convs_per_block}: {self.arch} needs 2 or 4")
        return self


class MixUpConfig(Config):
    """MixUp (Zhang et al. 2018): a sample and its label are interpolated with another sample and label."""

    rate: float = Field(0.5, ge=0, le=1)
    """Fraction of samples that are mixed."""
    alpha: float = Field(0.3, gt=0, le=10)
    """Parameter of Beta(alpha, alpha) of the mixing weight: small keeps one sample dominant, 1 is uniform."""
    domain: Literal["db", "power"] = "db"
    """db: values in dB are interpolated; power: powers of both at equal level add up, as sounds do in air
    (between-class learning, Tokozume et al. 2018). Multi-label: always powers."""


class MaskConfig(Config):
    """Masks, time shift and gain of a spectrogram; all sizes are scaled by the augmentation strength."""

    time_masks: int = Field(2, ge=0, le=20)
    """Number of time masks."""
    time_width: float = Field(0.12, ge=0, le=1)
    """Maximum width of a time mask, as a fraction of the clip."""
    freq_masks: int = Field(2, ge=0, le=20)
    """Number of frequency masks."""
    freq_width: float = Field(0.12, ge=0, le=1)
    """Maximum width of a frequency mask, as a fraction of the mel bands."""
    roll: float = Field(0.5, ge=0, le=0.5)
    """Maximum circular time shift in either direction, as a fraction of the clip."""
    gain_db: float = Field(6.0, ge=0, le=40)
    """Maximum gain change in dB, up or down."""


class SpecAugmentConfig(MaskConfig):
    """SpecAugment (Park et al. 2019) and variants; all sizes are scaled by the augmentation strength."""

    time_stretch: float = Field(0.15, ge=0, lt=1)
    """Maximum change of speed, as a fraction: 0.15 plays a clip up to 15 % faster or slower."""
    freq_shift: float = Field(0.06, ge=0, le=0.5)
    """Maximum shift of all mel bands up or down, as a fraction of their number (Jaitly and Hinton
    2013, VTLP)."""
    band_gain_db: float = Field(0.0, ge=0, le=40)
    """Maximum gain change in dB of a random equalizer, which differs between frequencies (FilterAugment, Nam
    et al. 2022): recordings of other microphones and rooms."""
    reverb: float = Field(0.0, ge=0, le=1)
    """Probability of the reverberation of a room, which decays by 60 dB in 0.1 to 1.5 s."""
    noise: float = Field(0.0, ge=0, le=1)
    """Probability of background noise, from white to brown, at a signal-to-noise ratio of 5 to 40 dB."""

    @property
    def has_acoustics(self) -> bool:
        """Whether there are rooms or noise."""
        return self.reverb > 0 or self.noise > 0


class GanConfig(Config):
    """Architecture of generator and discriminator."""

    latent_dim: int = Field(64, ge=1)
    """Dimension of the latent vector."""
    style_dim: int = Field(128, ge=1)
    """Dimension of the style vector (latent + class) that modulates the generator."""
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((16, 48, 96, 192), min_length=2, max_length=8)
    """Channels of each level, from the finest to the coarsest; each level halves both axes."""
    blocks: int = Field(1, ge=1, le=8)
    """Residual blocks per level."""
    patch: int = Field(4, ge=1, le=8)
    """Patch size: one cell of the finest feature map covers patch x patch values; 1 is finest and slowest."""


class GanAugmentConfig(MaskConfig):
    """Augmentation of real and generated clips before the discriminator."""

    time_masks: int = Field(1, ge=0, le=20)
    """Number of time masks."""
    time_width: float = Field(0.25, ge=0, le=1)
    """Maximum width of a time mask, as a fraction of the clip."""
    freq_masks: int = Field(1, ge=0, le=20)
    """Number of frequency masks."""
    freq_width: float = Field(0.25, ge=0, le=1)
    """Maximum width of a frequency mask, as a fraction of the mel bands."""
    roll: float = Field(0.1, ge=0, le=0.5)
    """Maximum circular time shift in either direction, as a fraction of the clip."""
    gain_db: float = Field(6.0, ge=0, le=40)
    """Maximum gain change in dB, up or down."""


class AdaConfig(Config):
    """Adaptive discriminator augmentation (ADA)."""

    adapt: bool = True
    """Adapt the augmentation probability to discriminator overfitting (ADA); otherwise keep it fixed."""
    p: float = Field(0.2, ge=0, le=MAX_PROBABILITY)
    """Probability of each augmentation per clip; the initial value when adaptive."""
    target: float = Field(0.6, gt=-1, lt=1)
    """ADA target for r_t, the mean sign of the discriminator's outputs on real clips."""

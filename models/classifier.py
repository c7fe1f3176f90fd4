"""Classifier: a convolutional network over log-mel spectrograms, of one of several architectures.

Shape suffixes: B batch, M mel bands, T frames (both shrink from block to block), H heads, C classes,
K channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones import build_backbone
from models.backbones.timm_models import TimmBackbone
from models.modulation import ModulationBranch
from models.norm import has_several_workers
from models.pcen import PcenInput
from models.repetition import repeat_short_clips
from models.settings import ClassifierConfig
from models.texture import MULTI_LABEL_TEXTURE_WEIGHT, TEXTURE_WEIGHT, TextureHead

# Of texture statistics that differ by less from their means, all in all, the difference is rounding.
MIN_DEVIATIONS = 0.1


class Classifier(nn.Module):
    """Network on the spectrogram, branch on its modulation spectrum, projection to a clip embedding, head.

    If the settings say so, a second head sees texture statistics alone.

    The network has the stem and blocks of an architecture, or is one of timm. Input is in dB. PCEN is
    computed from it, if the settings say so, and each mel band normalized; the statistics for this are saved
    with the weights. Pooling over time adds mean and maximum (Kong et al. 2020, PANNs), so that both
    sustained and short events are captured.
    """

    mel_mean_M: Tensor
    mel_std_M: Tensor

    def __init__(self, config: ClassifierConfig, n_mels: int, num_classes: int, multi_label: bool = False):
        """Build a network with random weights.

        Args:
            config: settings of the network.
            n_mels: mel bands of the spectrograms.
            num_classes: C.
            multi_label: whether each class has a probability of its own (sigmoid), rather than all of them
                one distribution (softmax).
        """
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.multi_label = multi_label
        self._frozen: list[nn.Module] = []
        # Divisor of the logits for calibrated probabilities.
        self.temperature = 1.0
        self.register_buffer("mel_mean_M", torch.zeros(n_mels))
        self.register_buffer("mel_std_M", torch.ones(n_mels))
        self.pcen = PcenInput(n_mels, config.pcen_smoothing) if "pcen" in config.input else None
        self.backbone = (
            None if config.timm_name is None else TimmBackbone(config.timm_name, config.input_channels)
        )
        if self.backbone is None:
            self.stem, blocks = build_backbone(config)
            self.blocks = nn.ModuleList(blocks)
        features = config.channels[-1] if self.backbone is None else self.backbone.num_features
        self.modulation = ModulationBranch(n_mels, features, config.norm) if config.modulation else None
        if self.modulation is not None:
            features += self.modulation.num_features
        self.projection = nn.Sequential(nn.Linear(features, config.embedding_dim), nn.ReLU(inplace=True))
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding_dim, config.embedding_dim),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding_dim, num_classes),
        )
        self.texture = TextureHead(config, n_mels, num_classes) if config.texture else None

    @property
    def stages(self) -> dict[str, list[str]]:
        """Names of the weights and statistics of each part of the network, from input to output."""
        if self.backbone is None:
            parts = {"stem": self.stem, **{f"blocks.{i}": block for i, block in enumerate(self.blocks)}}
            stages = {part: _prefixed(part, module.state_dict()) for part, module in parts.items()}
        else:
            stages = {
                f"backbone.{i}": _prefixed("backbone", names)
                for i, names in enumerate(self.backbone.stages())
            }
        if self.modulation is not None:
            stages["modulation"] = _prefixed("modulation", self.modulation.state_dict())
        ends = {"projection": self.projection, "head": self.head}
        stages |= {part: _prefixed(part, module.state_dict()) for part, module in ends.items()}
        if self.texture is not None:
            stages["head"] += _prefixed("texture.layers", self.texture.layers.state_dict())
        return stages

    @property
    def output_names(self) -> set[str]:
        """Names of the weights that have a value for each class."""
        outputs = {id(parameter) for layer in self.output_layers for parameter in layer.parameters()}
        return {name for name, parameter in self.named_parameters() if id(parameter) in outputs}

    @property
    def output_layers(self) -> list[nn.Linear]:
        """Last layer of each head."""
        heads = [self.head] if self.texture is None else [self.head, self.texture.layers]
        return [layer for head in heads if isinstance(layer := head[-1], nn.Linear)]

    def head_parameters(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each head with all that comes before it."""
        if self.texture is None:
            return [list(self.parameters())]
        texture = list(self.texture.parameters())
        own = {id(parameter) for parameter in texture}
        return [[parameter for parameter in self.parameters() if id(parameter) not in own], texture]

    def freeze(self, count: int) -> None:
        """Stop the training of the first `count` stages, also of the statistics of their norms.

        Output layers are trained in any case: they may be those of new classes.
        """
        frozen = {name for names in list(self.stages.values())[:count] for name in names} - self.output_names
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in frozen)
        # Modules all of whose weights are frozen, with the dropout in them.
        self._frozen = [
            module
            for name, module in self.named_modules()
            if (names := _prefixed(name, module.state_dict())) and frozen.issuperset(names)
        ]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all stages that are not frozen."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    @property
    def embedding_dim(self) -> int:
        """Size of a clip embedding: of that of the network and, if there are any, texture statistics."""
        return self.config.embedding_dim + (0 if self.texture is None else self.texture.num_statistics)

    @property
    def repeats_short_clips(self) -> bool:
        """Whether short clips are repeated until they fill the spectrogram."""
        return self.config.padding == "repeat"

    @property
    def has_collectives(self) -> bool:
        """Whether training communicates inside forward and backward (`norm: sync`, several workers)."""
        return self.config.norm == "sync" and has_several_workers()

    def forward(
        self,
        mel_BMT: Tensor,
        is_repeated: bool = False,
        separate_heads: bool = False,
        texture_BMT: Tensor | None = None,
    ) -> Tensor:
        """Return logits `[shape=(B, C)]` of spectrograms in dB, weighted means over heads.

        Args:
            mel_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.
            is_repeated: as for `embed`.
            separate_heads: return the logits of each head `[shape=(B, H, C)]`. Each is trained with a loss of
                its own: with a loss of their mean, the texture would learn only what convolutions leave over
                on the training clips, which is little.
            texture_BMT: other spectrograms for the head on texture statistics: those of masked clips are the
                statistics of their masks.
        """
        mel_BMT = self._repeated(mel_BMT, is_repeated)
        logits = [self.head(self.embed(mel_BMT, is_repeated=True))]
        if self.texture is not None:
            logits.append(self.texture(mel_BMT if texture_BMT is None else texture_BMT))
        logits_BHC = torch.stack(logits, dim=1)
        return logits_BHC if separate_heads else self._mean_over_heads(logits)

    def _mean_over_heads(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the weighted mean of the logits of the head on the embedding and that on texture, if any."""
        if len(logits) == 1:
            return logits[0]
        embedding_BC, texture_BC = logits
        weight = MULTI_LABEL_TEXTURE_WEIGHT if self.multi_label else TEXTURE_WEIGHT
        return (1 - weight) * embedding_BC + weight * texture_BC

    def embed_and_classify(self, mel_BMT: Tensor, is_repeated: bool = False) -> tuple[Tensor, Tensor]:
        """Return clip embeddings, of length 1 `[shape=(B, embedding_dim)]`, and logits; arguments as `embed`.

        A clip embedding is that of the network and, if a head sees them, texture statistics, both of the same
        length: its cosine similarity is the mean of theirs.
        """
        mel_BMT = self._repeated(mel_BMT, is_repeated)
        embedding_BK = self.embed(mel_BMT, is_repeated=True)
        parts, logits = [F.normalize(embedding_BK.float(), dim=1)], [self.head(embedding_BK)]
        if self.texture is not None:
            statistics_BK = self.texture.statistics(mel_BMT)
            parts.append(F.normalize(statistics_BK.float(), dim=1, eps=MIN_DEVIATIONS))
            logits.append(self.texture.classify(statistics_BK))
        return torch.cat(parts, dim=1) / math.sqrt(len(parts)), self._mean_over_heads(logits)

    def embed(self, mel_BMT: Tensor, is_repeated: bool = False) -> Tensor:
        """Return what the network computes the classes from, for spectrograms in dB.

        Args:
            mel_BMT: spectrograms in dB `[shape=(B, n_mels, num_frames)]`.
            is_repeated: short clips have been repeated already, as by the augmentation in training.

        Returns:
            at least 0 `[shape=(B, config.embedding_dim)]`.
        """
        mel_BMT = self._repeated(mel_BMT, is_repeated)
        level_BMT = (mel_BMT - self.mel_mean_M[:, None]) / self.mel_std_M[:, None]
        inputs = [level_BMT] if self.config.input != "pcen" else []
        if self.pcen is not None:
            inputs.append(self.pcen(mel_BMT))
        features_BK = self._features(torch.stack(inputs, dim=1).contiguous(memory_format=torch.channels_last))
        if self.modulation is not None:
            features_BK = torch.cat([features_BK, self.modulation(level_BMT)], dim=1)
        return self.projection(features_BK)

    def _repeated(self, mel_BMT: Tensor, is_repeated: bool) -> Tensor:
        """Repeat short clips, unless the settings do not say so or they have been."""
        needs_repetition = self.repeats_short_clips and not self.training and not is_repeated
        return repeat_short_clips(mel_BMT) if needs_repetition else mel_BMT

    def _features(self, x_BKMT: Tensor) -> Tensor:
        """Return the features of the spectrogram, pooled over frequency and time `[shape=(B, K)]`."""
        if self.backbone is not None:
            return self.backbone(x_BKMT)
        x_BKMT = self.stem(x_BKMT)
        for block in self.blocks:
            x_BKMT = block(x_BKMT)
        x_BKT = x_BKMT.mean(dim=2)
        return x_BKT.mean(dim=2) + x_BKT.amax(dim=2)

    def set_statistics(self, mean_M: Tensor, std_M: Tensor) -> None:
        """Set mean and standard deviation of each mel band over the training data, in dB."""
        self.mel_mean_M.copy_(mean_M)
        self.mel_std_M.copy_(std_M.clamp(min=1e-3))


def _prefixed(part: str, names: Iterable[str]) -> list[str]:
    return [f"{part}.{name}" if part else name for name in names]

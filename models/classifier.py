"""Classifier: a convolutional network over log-mel spectrograms, of one of several architectures.

Shape suffixes: B batch, M mel bands, T frames (both shrink from block to block), C classes, K channels.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from models.backbones import build_backbone
from models.norm import has_several_workers
from models.repetition import repeat_short_clips
from models.settings import ClassifierConfig


class Classifier(nn.Module):
    """Stem and blocks of the architecture, projection to a clip embedding, fully connected head.

    Input is in dB; the network normalizes each mel band itself, and `mel_mean_M` and `mel_std_M` are saved
    with the weights. Pooling over time adds mean and maximum (Kong et al. 2020, PANNs), so that both
    sustained and short events are captured.
    """

    mel_mean_M: Tensor
    mel_std_M: Tensor

    def __init__(self, config: ClassifierConfig, n_mels: int, num_classes: int):
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self._num_frozen = 0
        # Divisor of the logits for calibrated probabilities.
        self.temperature = 1.0
        # Whether each class has a probability of its own (sigmoid), rather than all of them one distribution.
        self.multi_label = False
        self.register_buffer("mel_mean_M", torch.zeros(n_mels))
        self.register_buffer("mel_std_M", torch.ones(n_mels))
        self.stem, blocks = build_backbone(config)
        self.blocks = nn.ModuleList(blocks)
        self.projection = nn.Sequential(
            nn.Linear(config.channels[-1], config.embedding_dim), nn.ReLU(inplace=True)
        )
        self.head = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding_dim, config.embedding_dim),
            nn.ReLU(inplace=True),
            nn.Dropout(config.dropout),
            nn.Linear(config.embedding_dim, num_classes),
        )

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Parts of the network from input to output, by the names of their weights."""
        blocks = {f"blocks.{i}": block for i, block in enumerate(self.blocks)}
        return {"stem": self.stem, **blocks, "projection": self.projection, "head": self.head}

    @property
    def output_names(self) -> set[str]:
        """Names of the weights that have a value for each class."""
        layer = len(self.head) - 1
        return {f"head.{layer}.weight", f"head.{layer}.bias"}

    def freeze(self, count: int) -> None:
        """Stop the training of the first `count` stages, also of the statistics of their norms."""
        self._num_frozen = count
        for stage in list(self.stages.values())[:count]:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all stages that are not frozen."""
        super().train(mode)
        for stage in list(self.stages.values())[: self._num_frozen]:
            stage.eval()
        return self

    @property
    def repeats_short_clips(self) -> bool:
        """Whether short clips are repeated until they fill the spectrogram."""
        return self.config.padding == "repeat"

    @property
    def has_collectives(self) -> bool:
        """Whether training communicates inside forward and backward (`norm: sync`, several workers)."""
        return self.config.norm == "sync" and has_several_workers()

    def forward(self, mel_BMT: Tensor) -> Tensor:
        """Return logits `[shape=(B, C)]` of spectrograms in dB `[shape=(B, n_mels, num_frames)]`."""
        return self.head(self.embed(mel_BMT))

    def embed(self, mel_BMT: Tensor) -> Tensor:
        """Return clip embeddings `[shape=(B, embedding_dim)]` of spectrograms in dB.

        In training, the augmentation has repeated short clips already.
        """
        if self.repeats_short_clips and not self.training:
            mel_BMT = repeat_short_clips(mel_BMT)
        x_BMT = (mel_BMT - self.mel_mean_M[:, None]) / self.mel_std_M[:, None]
        x_BKMT = self.stem(x_BMT[:, None].contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x_BKMT = block(x_BKMT)
        x_BKT = x_BKMT.mean(dim=2)
        return self.projection(x_BKT.mean(dim=2) + x_BKT.amax(dim=2))

    def set_statistics(self, mean_M: Tensor, std_M: Tensor) -> None:
        """Set mean and standard deviation of each mel band over the training data, in dB."""
        self.mel_mean_M.copy_(mean_M)
        self.mel_std_M.copy_(std_M.clamp(min=1e-3))

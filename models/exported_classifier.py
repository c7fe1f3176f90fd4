"""A classifier as an exported model: from spectrograms to probabilities and embeddings.

Equal to `predict_outputs` of `pipeline/classifier/inference.py`.

Shape suffixes: B batch, M mel bands, T frames, C classes, K values of a clip embedding.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.classifier import Classifier
from models.ensemble import Ensemble


class ExportedClassifier(nn.Module):
    """Spectrograms to calibrated probabilities and, if requested, clip embeddings."""

    def __init__(self, network: Classifier | Ensemble, with_embeddings: bool = False):
        super().__init__()
        self.network, self.with_embeddings = network, with_embeddings

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        return ["probabilities", "embeddings"] if self.with_embeddings else ["probabilities"]

    def forward(self, mel_BMT: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return probabilities `[shape=(B, C)]`, or these and embeddings `[shape=(B, K)]`."""
        if not self.with_embeddings:
            return self._probabilities(self.network(mel_BMT))
        embedding_BK, logits_BC = self.network.embed_and_classify(mel_BMT)
        return self._probabilities(logits_BC), embedding_BK

    def _probabilities(self, logits_BC: Tensor) -> Tensor:
        logits_BC = logits_BC / self.network.temperature
        return logits_BC.sigmoid() if self.network.multi_label else logits_BC.softmax(1)

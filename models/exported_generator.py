"""Generator with the range of real spectrograms, for use without melray.

Shape suffixes: B batch, M mel bands, T frames, Z latent.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.gan import Generator, Latents


class ExportedGenerator(nn.Module):
    """Latent, noise and class to spectrograms in dB, as `melray generate` passes them to the vocoder."""

    def __init__(self, generator: Generator, min_db: float, top_db: float | None):
        """Set the minimum in dB, and the range in dB below the maximum of each clip (None: all of it)."""
        super().__init__()
        self.generator, self.min_db, self.top_db = generator, min_db, top_db

    def forward(self, latent_BZ: Tensor, noise_BMT: Tensor, label_B: Tensor) -> Tensor:
        """Return spectrograms in dB, float32 `[shape=(B, n_mels, num_frames)]`."""
        mel_BMT: Tensor = self.generator(Latents(latent_BZ, noise_BMT), label_B)
        if self.top_db is None:
            return mel_BMT.clamp(min=self.min_db)
        floor_B11 = (mel_BMT.amax(dim=(1, 2), keepdim=True) - self.top_db).clamp(min=self.min_db)
        return mel_BMT.maximum(floor_B11)

"""Setting of datasets with several configurations."""

from __future__ import annotations

from models.config import Config


class CardSettings(Config):
    """Which configuration of a dataset is read."""

    data_config: str | None = None
    """Configuration of a Hugging Face dataset, one of `configs` in its card `README.md` (default: the card's
    default; `predict` reads all audio files)."""

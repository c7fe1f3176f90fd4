"""What every training is told, of a classifier or of a GAN: the data, the split, the resources, the arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pipeline.data.split import SplitConfig
from pipeline.distributed.resources import ResourceConfig
from pipeline.io.storage import PathOrURI


class TrainingConfig(ResourceConfig, SplitConfig):
    """The settings that all trainings share."""

    shards: PathOrURI
    """Folder of a complete extraction."""
    run: PathOrURI
    """Folder of the run: configuration, metrics, checkpoints, model. The same command again goes on where it stopped."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the networks; auto takes bfloat16 where the hardware multiplies it natively."""

    @property
    def sets(self) -> tuple[Path, ...]:
        """All shards that it learns from, its own first."""
        return (self.shards,)

    def identity(self) -> dict[str, Any]:
        """The settings that make a run what it is: those of the cluster may change when it is continued."""
        values = self.to_dict()
        for name in (*ResourceConfig.model_fields, "run", "shards"):
            del values[name]
        return values

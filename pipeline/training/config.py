"""Settings shared by all training runs: data, split, resources, precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.data.split import SplitConfig
from pipeline.distributed.resources import ResourceConfig
from pipeline.io.storage import PathOrURI
from pipeline.training.optim import Precision


class TrainingConfig(ResourceConfig, SplitConfig):
    """Settings shared by all training runs."""

    shards: PathOrURI
    """Shard folder."""
    run: PathOrURI
    """Run folder: configuration, metrics, checkpoints, model. Rerun the command to resume."""
    precision: Precision = "auto"
    """Numeric precision of the networks; auto uses bfloat16 where the hardware supports it natively."""

    @property
    def shard_folders(self) -> tuple[Path, ...]:
        """All shard folders to train on, `shards` first."""
        return (self.shards,)

    def identity(self) -> dict[str, Any]:
        """Return the settings that define a run; those of resources and paths may change when it resumes."""
        settings = self.to_dict()
        for name in (*ResourceConfig.model_fields, "run", "shards"):
            del settings[name]
        return settings

"""Settings shared by all training runs: data, split, resources, precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.data.loader import gpu_budget
from pipeline.data.split import SplitConfig
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.io.storage import PathOrURI
from pipeline.training.optim import Precision


class TrainingConfig(ResourceConfig, SplitConfig):
    """Settings shared by all training runs."""

    shards: PathOrURI
    """Shard folder."""
    run: PathOrURI
    """Run folder: configuration, metrics, checkpoints, model. Rerun the command to resume."""
    precision: Precision = "auto"
    """Numeric precision of the networks; auto: bf16 where the hardware supports it natively, otherwise fp16
    on GPUs and fp32 on CPUs. fp32 is exact on GPUs too, where tf32 is faster."""

    @property
    def shard_folders(self) -> tuple[Path, ...]:
        """All shard folders to train on, `shards` first."""
        return (self.shards,)

    def gpu_bytes(self, device: torch.device) -> int:
        """Return the memory of a worker's GPU that spectrograms may fill, in bytes."""
        return gpu_budget(device, self.gpu_data_fraction, self.gpus_per_worker or 1.0)

    def identity(self) -> dict[str, Any]:
        """Return the settings that define a run; those of resources and paths may change when it resumes."""
        settings = self.to_dict()
        for name in (*ResourceConfig.model_fields, "run", "shards"):
            del settings[name]
        return settings

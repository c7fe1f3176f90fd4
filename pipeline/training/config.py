"""Settings shared by all training runs: data, split, resources, precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from pipeline.data.split_config import SplitConfig
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.io.storage import PathOrURI
from pipeline.training.trackers.names import TENSORBOARD, TrackerNames

if TYPE_CHECKING:
    import torch  # slow to import, and a command line is parsed without it

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
# Settings in addition to those of resources that may differ when a run is resumed.
CHANGEABLE = ("run", "shards", "data_placement", "checkpoint_minutes", "log_to")


class TrainingConfig(ResourceConfig, SplitConfig):
    """Settings shared by all training runs."""

    shards: PathOrURI
    """Shard folder."""
    run: PathOrURI
    """Run folder: configuration, metrics, checkpoints, model. Rerun the command to resume."""
    precision: Precision = "auto"
    """Numeric precision of the networks; auto: bf16 where the hardware supports it natively, otherwise fp16
    on GPUs and fp32 on CPUs. fp32 is exact on GPUs too, where tf32 is faster."""
    data_placement: Literal["replicated", "partitioned"] = "replicated"
    """replicated: every node caches all rows; partitioned: every node caches a share of the shards and trains
    on their rows, for datasets larger than the disk of a node."""
    checkpoint_minutes: float = Field(30.0, ge=0)
    """Minutes between checkpoints within an epoch; 0 writes them only after epochs, and when a node is to be
    taken away."""
    log_to: TrackerNames = (TENSORBOARD,)
    """Where metrics are logged, besides metrics.jsonl: tensorboard, mlflow, wandb, one or more of them."""

    @property
    def logs_to_tensorboard(self) -> bool:
        """Whether runs write files of TensorBoard."""
        return TENSORBOARD in self.log_to

    @property
    def shard_folders(self) -> tuple[Path, ...]:
        """All shard folders to train on, `shards` first."""
        return (self.shards,)

    @property
    def initial_run(self) -> Path | None:
        """Run, or model file, from whose weights the training starts."""
        return None

    @property
    def final(self) -> Self:
        """Settings with the split that the saved model is trained on."""
        return self

    def gpu_bytes(self, device: torch.device) -> int:
        """Return the memory of a worker's GPU that spectrograms may fill, in bytes."""
        from pipeline.data.loader import gpu_budget

        return gpu_budget(device, self.gpu_data_fraction, self.gpus_per_worker or 1.0)

    def identity(self) -> dict[str, Any]:
        """Return the settings that define a run; those of resources and paths may change when it resumes."""
        settings = self.to_dict()
        for name in (*ResourceConfig.model_fields, *CHANGEABLE):
            del settings[name]
        return settings

"""Cluster resources of a training run: settings of the commands that train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from pipeline.distributed.devices import DeviceConfig, resolve_gpus
from pipeline.distributed.resources import NodeResources, ResourceRequest
from pipeline.distributed.worker_options import WorkerOptionsConfig


class ResourceConfig(DeviceConfig, WorkerOptionsConfig):
    """Cluster resources of a training run; may differ when a run is resumed."""

    workers: int = Field(1, ge=1)
    """Workers that share each batch (DDP)."""
    min_workers: int | None = Field(None, ge=1)
    """Continue with at least this many workers when nodes are lost, and scale back up when they return
    (default: wait for all workers)."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPUs per worker (default: an equal share of a node)."""
    max_failures: int = Field(3, ge=0)
    """Give up after more than this many lost workers; until then, training resumes from the last epoch."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on a GPU."""
    cuda_graphs: bool = True
    """On a GPU, record each training step as a CUDA graph, which removes the time to launch its kernels."""
    gpu_data_fraction: float = Field(0.4, ge=0, le=1)
    """Fraction of a worker's part of a GPU that spectrograms may fill; larger datasets are streamed."""

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"--min-workers {self.min_workers}: more than --workers {self.workers}")
        return self

    def need(self, cpus: int) -> ResourceRequest:
        """Return the resources without which training cannot start, with `cpus` CPUs per worker."""
        return self.request(self.min_workers or self.workers, cpus)

    def request(self, workers: int, cpus: int) -> ResourceRequest:
        """Return the resources of a number of workers, with `cpus` CPUs each."""
        return ResourceRequest(workers, cpus, self.gpus_per_worker or 0.0, self.spread, self.worker_options)

    @property
    def spread(self) -> bool:
        """Whether each worker should have a node of its own: with CPUs alone, and an equal share of them.

        With a given size workers share nodes, where they exchange gradients faster; so do those with GPUs.
        """
        return self.workers > 1 and self.cpus_per_worker is None and not self.gpus_per_worker

    def on_nodes(self, nodes: Sequence[NodeResources]) -> Self:
        """Return these settings with the number of GPUs per worker that suits the nodes of the cluster."""
        request = self.need(self.cpus_per_worker or 1)
        gpus = resolve_gpus(self, request.workers, nodes, request.cpus)
        return self.model_copy(update={"gpus_per_worker": gpus})

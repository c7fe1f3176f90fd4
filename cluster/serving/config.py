"""Settings of `melray serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from models.config import Config, as_tuple
from pipeline.distributed.devices import DeviceConfig
from pipeline.io.storage import PathOrURI


class UploadLimits(Config):
    """Limits of a sound that a client sends."""

    max_megabytes: float = Field(50.0, gt=0, le=2000)
    """Size limit of an uploaded file in MB. Uploads are in memory, up to --max-requests of them per model."""
    max_seconds: float = Field(600.0, gt=0, le=86_400)
    """Length limit of a sound in seconds, whatever its file has or declares."""

    @property
    def max_bytes(self) -> int:
        """Size limit of a file in bytes."""
        return round(1e6 * self.max_megabytes)


class ServeConfig(UploadLimits, DeviceConfig):
    """Serve trained runs over HTTP, with a page to use them: classify sounds, and generate clips.

    The page is at /, a description of the interface at /docs. Each run has replicas of its own, which are
    Ray Serve's and are the workers that --gpus-per-worker is about. Ctrl-C ends the server."""

    run: Annotated[tuple[PathOrURI, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    """Folders of runs to serve: classifiers, ensembles, cross-validations and generators."""
    host: str = "127.0.0.1"
    """Address to listen on. Another one than that of this host alone needs a token from its clients; 0.0.0.0
    is all addresses of this host."""
    port: int = Field(8000, ge=0, le=65_535)
    """Port to listen on; 0 is any that is free."""
    token_file: Path | None = None
    """File with the token that clients must send, created if it does not exist (default: none on 127.0.0.1,
    else one in the cache folder)."""
    replicas: int = Field(1, ge=1)
    """Replicas of each model. A request that was on a replica that is lost is repeated on another."""
    max_replicas: int | None = Field(None, ge=1)
    """Add replicas up to this number after half a minute in which requests wait for busy ones, and remove
    them after ten minutes without need (default: --replicas)."""
    cpus_per_replica: float | None = Field(None, gt=0)
    """CPUs per replica, each of which decodes a file at a time (default: 1, or a share of one if there are
    fewer than replicas)."""
    batch_size: int = Field(16, ge=1, le=512)
    """Sounds of concurrent requests that a replica is sent and classifies at once, at most."""
    max_requests: int = Field(32, ge=1, le=10_000)
    """Concurrent requests of a model, waiting ones included. More are refused with status 503."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Test-time augmentation: circular time shifts to average over."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numeric precision of the network; with fp32 probabilities do not depend on the batch."""

    @model_validator(mode="after")
    def _check_replicas(self) -> ServeConfig:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"--max-replicas {self.max_replicas}: less than --replicas {self.replicas}")
        return self


class ServedRun(Config):
    """A run that is served: a path that all hosts of a cluster must see."""

    run: PathOrURI

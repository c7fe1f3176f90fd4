"""Replicas of Ray Serve, and calls of them.

Ray Serve places replicas on nodes, restarts lost ones, scales and batches. Its HTTP proxies are not used:
they read uploads into memory as fast as clients send them, before a replica can refuse them.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.serving import classifier_replica, generator_replica
from cluster.serving.classifier_replica import ClassifierSettings
from cluster.serving.config import ServeConfig
from cluster.serving.generator_replica import GeneratorSettings
from cluster.serving.messages import Classification, Rejection, ServedClip, Sound
from cluster.serving.models import ServedModel
from cluster.serving.requests import unavailable
from pipeline.distributed.failures import is_worker_lost
from pipeline.io.errors import UserError

# A request is repeated once if its replica is lost: no request can be the reason, as decoders are processes
# of their own.
ATTEMPTS = 2
REQUEST_TIMEOUT_S = 300.0
# How often Ray Serve checks whether replicas respond, in seconds, and how long it waits for that.
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 1.0, 30.0
# Seconds in which a replica may finish its requests at the end.
SHUTDOWN_S = 2.0


@dataclass(frozen=True)
class BatchSettings:
    """Batches of a classifier's requests."""

    size: int
    wait_s: float


@dataclass(frozen=True)
class ReplicaResources:
    """Resources of each replica."""

    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Number of CPUs that are its own, at least 1."""
        return max(1, int(self.cpus))


class ServedClassifier(classifier_replica.ClassifierReplica):
    """Replica that classifies the sounds of concurrent requests together."""

    def __init__(self, run: Path, settings: ClassifierSettings, batches: BatchSettings, threads: int):
        torch.set_num_threads(threads)
        super().__init__(run, settings)
        batch: Any = self.predict
        batch.set_max_batch_size(batches.size)
        batch.set_batch_wait_timeout_s(batches.wait_s)

    @serve.batch
    async def predict(self, mels: list[np.ndarray]) -> list[np.ndarray]:
        """Classify the spectrograms of several requests."""
        return await self.predict_all(mels)


class ServedGenerator(generator_replica.GeneratorReplica):
    """Replica that generates clips."""

    def __init__(self, run: Path, settings: GeneratorSettings):
        torch.set_num_threads(1)  # as `melray generate`, so that a seed gives the same bits
        super().__init__(run, settings)


class RemoteModel:
    """Sends requests to the replicas of a model."""

    def __init__(self, handle: DeploymentHandle):
        self._handle = handle

    async def classify(self, sound: Sound) -> Classification | Rejection:
        """Classify a sound."""
        result: Classification | Rejection = await self._call("classify", sound)
        return result

    async def generate(self, label: str, seed: int) -> ServedClip | Rejection:
        """Generate the clip of a class and a seed."""
        result: ServedClip | Rejection = await self._call("generate", label, seed)
        return result

    async def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of a replica.

        Raises:
            HTTPException: replicas were lost, or none has answered in time.
        """
        for _ in range(ATTEMPTS):
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    return await getattr(self._handle, method).remote(*arguments)
            except TimeoutError:
                raise unavailable(f"no replica has answered within {REQUEST_TIMEOUT_S:g} s") from None
            except Exception as error:
                if not is_worker_lost(error):
                    raise
        raise unavailable("the replicas that had this request were lost; try again")


@contextmanager
def deploy(
    models: Sequence[ServedModel], config: ServeConfig, resources: ReplicaResources
) -> Iterator[dict[str, RemoteModel]]:
    """Run the replicas of all models within the `with` block; yield what calls them, by the models' names.

    Raises:
        UserError: a replica cannot be started.
    """
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR", "enable_access_log": False})
    suffix = uuid.uuid4().hex[:8]  # other servers on the cluster may have models of the same name
    targets = [
        serve.RunTarget(_application(model, config, resources), f"melray-{model.name}-{suffix}", None)
        for model in models
    ]
    try:
        handles = _run(targets)
        yield {model.name: RemoteModel(handle) for model, handle in zip(models, handles, strict=True)}
    finally:
        _stop([target.name for target in targets])


def _run(targets: Sequence[Any]) -> list[DeploymentHandle]:
    try:
        return serve.run_many(targets)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"the models could not be started: {lines[-1] if lines else error}") from error


def _stop(names: Sequence[str]) -> None:
    """Stop the replicas, and Ray Serve itself if no one else uses it."""
    if set(serve.status().applications) - set(names):
        for name in names:
            serve.delete(name)
        return
    with quiet_end():
        serve.shutdown()


def quiet_end() -> AbstractContextManager[object]:
    """Hide what Ray prints on stdout within the `with` block, when Ray Serve ends: that its calls fail."""
    return redirect_stdout(StringIO())


def _application(model: ServedModel, config: ServeConfig, resources: ReplicaResources) -> Any:
    """Return the application of a model, with its number of replicas and their resources."""
    device: Any = "cuda" if resources.gpus else "cpu"
    arguments: tuple[Any, ...]
    if model.kind == "classifier":
        replica: Any = ServedClassifier
        settings = ClassifierSettings(
            config.max_seconds, resources.threads, device, config.tta_shifts, config.precision
        )
        batches = BatchSettings(config.batch_size, config.batch_wait_ms / 1000)
        arguments = (model.run, settings, batches, resources.threads)
    else:
        replica, arguments = ServedGenerator, (model.run, GeneratorSettings(device))
    options: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": resources.cpus, "num_gpus": resources.gpus},
        # All requests are sent on at once: their number is limited by the server.
        "max_ongoing_requests": config.max_requests,
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
        "graceful_shutdown_timeout_s": SHUTDOWN_S,
        "graceful_shutdown_wait_loop_s": 0.1,
    }
    if config.max_replicas is None:
        options["num_replicas"] = config.replicas
    else:
        options["autoscaling_config"] = {
            "min_replicas": config.replicas,
            "max_replicas": config.max_replicas,
            "target_ongoing_requests": config.batch_size,
        }
    deployment: Any = serve.deployment(replica, name=model.kind)
    return deployment.options(**options).bind(*arguments)

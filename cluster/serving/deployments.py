"""Replicas of Ray Serve, and calls of them.

Ray Serve places replicas on nodes, restarts lost ones and scales. Its HTTP proxies are not used: they read
uploads into memory as fast as clients send them, before a replica can refuse them. Nor are its batches: they
are formed at the replica, of requests that have arrived one by one, each of which costs Ray half as much CPU
time as it takes to classify a clip.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import torch
from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.serving import classifier_replica, generator_replica
from cluster.serving.classifier_replica import ClassifierSettings
from cluster.serving.config import ServeConfig
from cluster.serving.generator_replica import GeneratorSettings
from cluster.serving.groups import Groups
from cluster.serving.messages import Classification, Rejection, ServedClip, Sound
from cluster.serving.models import ServedModel
from cluster.serving.requests import unavailable
from pipeline.distributed.failures import is_worker_lost
from pipeline.distributed.ray_names import ray_name
from pipeline.distributed.worker import disable_malloc_trim
from pipeline.io.errors import UserError

T = TypeVar("T")
# A request is repeated once if its replica is lost: no request can be the reason, as decoders are processes
# of their own.
ATTEMPTS = 2
REQUEST_TIMEOUT_S = 300.0
# Sounds with more bytes are sent in calls of their own, which take long.
MAX_GROUPED_BYTES = 2_000_000
# How often Ray Serve checks whether replicas respond, in seconds, and how long it waits for that.
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 1.0, 30.0
# Calls in progress per replica above which Ray Serve adds replicas: one call keeps a replica busy. A second
# one for each is too many to ask for, as `Groups` makes one only of many requests.
CALLS_PER_BUSY_REPLICA = 1
# Seconds in which a replica may finish its requests at the end.
SHUTDOWN_S = 2.0
# A replica of a classifier computes in other threads and processes, so that its code can run in the event
# loop of Ray Serve: its calls need not be handed over to a thread with an event loop of its own.
ONE_EVENT_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}


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
    """Replica that classifies sounds."""

    def __init__(self, run: Path, settings: ClassifierSettings, threads: int):
        torch.set_num_threads(threads)
        disable_malloc_trim()
        super().__init__(run, settings)


class ServedGenerator(generator_replica.GeneratorReplica):
    """Replica that generates clips."""

    def __init__(self, run: Path, settings: GeneratorSettings):
        torch.set_num_threads(1)  # as `melray generate`, so that a seed gives the same bits
        super().__init__(run, settings)


class RemoteModel:
    """Sends requests to the replicas of a model."""

    def __init__(self, handle: DeploymentHandle, config: ServeConfig):
        self._handle = handle
        self._streaming_handle = handle.options(stream=True)
        replicas = config.max_replicas or config.replicas
        self._groups = Groups(self._classify_group, config.batch_size, replicas)

    async def classify(self, sound: Sound) -> Classification | Rejection:
        """Classify a sound."""
        is_large = len(sound.content) > MAX_GROUPED_BYTES
        result = self._groups.result_alone if is_large else self._groups.result
        return await _answer(lambda: result(sound))

    async def generate(self, label: str, seed: int) -> ServedClip | Rejection:
        """Generate the clip of a class and a seed."""
        result: ServedClip | Rejection = await _answer(lambda: self._handle.generate.remote(label, seed))
        return result

    async def _classify_group(
        self, sounds: list[Sound]
    ) -> AsyncIterator[list[tuple[int, Classification | Rejection]]]:
        responses: Any = self._streaming_handle.classify_group.remote(sounds)
        try:
            async for results in responses:
                yield results
        except (asyncio.CancelledError, GeneratorExit):
            responses.cancel()
            raise


async def _answer(call: Callable[[], Awaitable[T]]) -> T:
    """Return the result of a call of a replica, which is repeated if its replica is lost.

    Raises:
        HTTPException: replicas were lost, or none has answered in time.
    """
    for _ in range(ATTEMPTS):
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await call()
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
        serve.RunTarget(
            _application(model, config, resources), f"melray-{ray_name(model.name)}-{suffix}-{number}", None
        )
        for number, model in enumerate(models)
    ]
    try:
        handles = _run(targets)
        yield {model.name: RemoteModel(handle, config) for model, handle in zip(models, handles, strict=True)}
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
        arguments = (model.run, settings, resources.threads)
    else:
        replica, arguments = ServedGenerator, (model.run, GeneratorSettings(device))
    actor_options: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    if model.kind == "classifier":
        actor_options["runtime_env"] = {"env_vars": ONE_EVENT_LOOP}
    options: dict[str, Any] = {
        "ray_actor_options": actor_options,
        # The number of requests is limited by the server.
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
            "target_ongoing_requests": CALLS_PER_BUSY_REPLICA,
        }
    deployment: Any = serve.deployment(replica, name=model.kind)
    return deployment.options(**options).bind(*arguments)

"""`melray serve`: trained runs over HTTP, until Ctrl-C."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.arguments.common_flags import CommonFlags
from cluster.commands import print_config
from cluster.connection.execution import command_execution
from cluster.connection.loopback import is_loopback
from cluster.connection.session import set_environment
from cluster.connection.shared_folders import check_shared_folders
from cluster.serving.config import ServeConfig, ServedRun, UploadLimits
from cluster.serving.models import load_models
from cluster.serving.token import read_serve_token, token_file
from pipeline.distributed.devices import resolve_gpus
from pipeline.distributed.resources import ResourceRequest, cluster_nodes, wait_for_resources
from pipeline.io.console import logger
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    from cluster.serving.deployments import ReplicaResources

# Modules of the optional dependencies.
REQUIRED = ("fastapi", "uvicorn", "python_multipart", "ray.serve")


def serve(config: ServeConfig, common: CommonFlags) -> int:
    """Serve runs until Ctrl-C.

    Raises:
        UserError: missing packages, an unusable run, a port in use, an unusable token file, or too few
            resources.
    """
    set_environment(common.address)  # before Ray is imported
    check_packages()
    if (common.address or "").startswith("ray://"):
        raise UserError(f"--address {common.address}: a server needs HOST:PORT of the cluster, not ray://")
    from cluster.serving.http_server import listen, run_until_interrupt, server_url

    print_config(config)
    path = token_file(config)
    token = None if path is None else read_serve_token(path)
    models = load_models(config.run)
    with listen(config.host, config.port) as listener, _session(common):
        if common.address is not None:
            for run in config.run:
                check_shared_folders(ServedRun(run=run))
        from cluster.serving.app import create_app
        from cluster.serving.deployments import deploy

        logger.info("loading %s", ", ".join(f"{model.name} ({model.kind})" for model in models))
        with deploy(models, config, replica_resources(config, len(models))) as backends:
            limits = UploadLimits(max_megabytes=config.max_megabytes, max_seconds=config.max_seconds)
            app = create_app(models, backends, limits, config.max_requests, token)
            _announce(config, server_url(listener), path)
            run_until_interrupt(app, listener)
            logger.info("stopping")
    print("stopped", flush=True)
    return 0


@contextmanager
def _session(common: CommonFlags) -> Iterator[None]:
    """Run the work of the command on Ray within the `with` block."""
    with ExitStack() as stack:
        stack.enter_context(command_execution(common, needs_ray=True, command="serve"))
        try:
            yield
        finally:
            from cluster.serving.deployments import quiet_end

            with quiet_end():
                stack.close()


def check_packages() -> None:
    """Raise `UserError` if an optional dependency is missing."""
    for name in REQUIRED:
        try:
            is_there = find_spec(name) is not None
        except ModuleNotFoundError:
            is_there = False
        if not is_there:
            raise UserError(f"melray serve needs {name}: pip install 'melray[serve]'")


def replica_resources(config: ServeConfig, num_models: int) -> ReplicaResources:
    """Return the resources of each replica, once all replicas fit on the cluster.

    Raises:
        UserError: they do not.
    """
    from cluster.serving.deployments import ReplicaResources

    nodes, replicas = cluster_nodes(), config.replicas * num_models
    cpus = config.cpus_per_replica
    if cpus is None:
        available = sum(node.cpus for node in nodes)
        cpus = min(1.0, max(0.01, int(100 * available / replicas) / 100))
    gpus = resolve_gpus(config, replicas, nodes, cpus)
    request = ResourceRequest(replicas, cpus, gpus)
    wait_for_resources(request, config.wait_for_nodes, "lower --replicas or --cpus-per-replica")
    return ReplicaResources(cpus, gpus)


def _announce(config: ServeConfig, url: str, token: Path | None) -> None:
    """Print where the server is, and how to use its token."""
    header = ""
    if token is not None:
        header = f'-H "Authorization: Bearer $(cat {shlex.quote(str(token))})" '
        print(f"token: in {token}, which only you can read")
    if not is_loopback(config.host):
        logger.warning(
            "listening on %s without encryption: use a trusted network, or a proxy with HTTPS", config.host
        )
    print(f"page: {url}/\nuse: curl {header}-F file=@SOUND.wav {url}/classify", flush=True)
    logger.info("ready; Ctrl-C ends the server")

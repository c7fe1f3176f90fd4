"""Local paths of a command on a cluster of several hosts: all of them must see the same folders.

Otherwise workers would write results to their own disks, which a command notices when it collects them.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from models.config import Config
from pipeline.io.errors import UserError
from pipeline.io.remote_path import RemotePath

# Hosts that are asked: what they have in common was set up for all of them.
MAX_HOSTS = 8
TIMEOUT_S = 20.0
# Settings of folders that a command creates. Other paths exist before.
OUTPUTS = ("out", "run")


def check_shared_folders(config: Config) -> None:
    """Check that the other hosts of the cluster see the local paths of a command, by a task on each.

    Raises:
        UserError: a host does not see a path.
    """
    paths = local_paths(config)
    hosts = _other_hosts() if paths else {}
    if not hosts:
        return
    with _probes(paths) as probes:
        for host, missing in _find_missing(hosts, list(probes.values())).items():
            for flag, probe in probes.items():
                if probe in missing:
                    raise UserError(
                        f"{flag} {paths[flag]}: not on host {host}; use a folder that all hosts of the "
                        "cluster share (NFS, EFS, Filestore), or s3:// or gs://"
                    )


def local_paths(config: Config) -> dict[str, Path]:
    """Return the settings of a command that are paths of a file system, by flag.

    Without the files that were sent with a job, which every node has in a folder of its own.
    """
    # Not the current folder: a second node on the same host may have unpacked the files again.
    sent = Path(__file__).resolve().parents[2] if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else None
    return {
        f"--{name.replace('_', '-')}": value
        for name in type(config).model_fields
        if isinstance(value := getattr(config, name), Path)
        and not isinstance(value, RemotePath)
        and not (sent and value.is_relative_to(sent))
    }


def _other_hosts() -> dict[str, str]:
    """Return a node of each host but this one, by host; the nodes of `melray cluster up` are on one host."""
    import ray

    this_node = ray.get_runtime_context().get_node_id()
    nodes = [node for node in ray.nodes() if node["Alive"]]
    hosts = {node["NodeManagerHostname"]: node["NodeID"] for node in nodes}
    hosts.pop(next((n["NodeManagerHostname"] for n in nodes if n["NodeID"] == this_node), ""), None)
    return dict(sorted(hosts.items())[:MAX_HOSTS])


@contextmanager
def _probes(paths: Mapping[str, Path]) -> Iterator[dict[str, str]]:
    """Provide a path to look for on other hosts by flag: the path itself, or for an output a new file."""
    probes, markers = {}, []
    try:
        for flag, path in paths.items():
            if flag.removeprefix("--") in OUTPUTS and (marker := _create_marker(path)) is not None:
                markers.append(marker)
                probes[flag] = str(marker)
            elif path.exists():
                probes[flag] = str(path)
        yield probes
    finally:
        for marker in markers:
            with suppress(OSError):
                marker.unlink()


def _create_marker(path: Path) -> Path | None:
    """Create an empty file in a folder, or in the next folder above that exists; None if it is read-only."""
    folder = next(parent for parent in (path, *path.parents) if parent.is_dir())
    marker = folder / f".melray-{uuid.uuid4().hex[:12]}"
    try:
        marker.touch()
    except OSError:
        return None
    return marker


def _find_missing(hosts: Mapping[str, str], probes: Sequence[str]) -> dict[str, set[str]]:
    """Return which paths do not exist on each host; a host that does not answer in time is left out."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task: Any = ray.remote(num_cpus=0, max_retries=0)(_missing_paths)
    pending = {}
    for host, node in hosts.items():
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        pending[task.options(name="checking folders", scheduling_strategy=strategy).remote(probes)] = host
    ready, late = ray.wait(list(pending), num_returns=len(pending), timeout=TIMEOUT_S)
    missing = {}
    for result in ready:
        with suppress(ray.exceptions.RayError):  # a host that was lost
            missing[pending[result]] = set(ray.get(result))
    for result in late:
        ray.cancel(result)
    return missing


def _missing_paths(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not os.path.exists(path)]

"""Entry point of a job: the shell command that a node runs, and the resources that it holds there.

Most commands only plan and wait: their entry point runs on the head node and holds nothing. `evaluate`
computes in its own process, so that holds CPUs, and a GPU if the cluster has one.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cluster.arguments.registry import COMMAND_SPECS
from cluster.connection.nodes import Node
from models.config import Config
from pipeline.io.text import plural

# Maximum CPUs of a command that computes in its own process.
MAX_CPUS = 4


class EntrypointResources(NamedTuple):
    """Resources that the process of a command holds as long as it runs."""

    cpus: float = 0.0
    gpus: float = 0.0
    resources: Mapping[str, float] = {}
    """Amounts of custom resources by name."""
    labels: Mapping[str, str] = {}
    """Label selector of its node."""

    @property
    def request(self) -> dict[str, Any]:
        """Arguments of Ray's `submit_job`; empty for a process on the head node."""
        values = {
            "entrypoint_num_cpus": self.cpus,
            "entrypoint_num_gpus": self.gpus,
            "entrypoint_resources": dict(self.resources),
            "entrypoint_label_selector": dict(self.labels),
        }
        return {name: value for name, value in values.items() if value}

    def __str__(self) -> str:
        amounts = [plural(value, name) for value, name in ((self.cpus, "CPU"), (self.gpus, "GPU")) if value]
        amounts += [f"{value:g} {name}" for name, value in self.resources.items()]
        labels = [f"{name}={value}" for name, value in self.labels.items()]
        text = f"a node with {' and '.join(amounts)}" if amounts else "a node"
        return text + (f" and labels {', '.join(labels)}" if labels else "")


def shell_command(arguments: Sequence[str]) -> str:
    """Return the shell command that runs a command of melray; with `--address auto` it joins the cluster."""
    return shlex.join(["python", "-m", "cluster", *arguments, "--address", "auto"])


def computes_in_process(key: str) -> bool:
    """Return whether a command computes in its own process, also on a cluster."""
    return COMMAND_SPECS[key].computes_in_process


def default_resources(config: Config, nodes: Sequence[Node]) -> EntrypointResources:
    """Return the resources of a command that computes in its own process.

    Args:
        config: settings of the command, whose `device` decides about a GPU.
        nodes: nodes of the cluster.
    """
    alive = [node for node in nodes if node.alive]
    device = getattr(config, "device", "cpu")
    with_gpu = [node for node in alive if node.total["GPU"] >= 1]
    gpus = 1.0 if device == "cuda" or (device == "auto" and with_gpu) else 0.0
    largest = max((node.total["CPU"] for node in (with_gpu if gpus else alive)), default=0.0)
    # At least one: on a cluster that is still without CPUs, its autoscaler adds a node for it.
    return EntrypointResources(max(1.0, min(MAX_CPUS, largest)), gpus)

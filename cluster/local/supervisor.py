"""Process that runs the nodes of a local cluster: starts them, watches the head, and ends with all of them.

    python -P supervisor.py SETTINGS      SETTINGS: JSON file with `head`, `workers` and `ready`

Nodes start one after another, each when the one before is registered with its agents: Ray names sockets and
logs by the files that exist, so that nodes that start at the same moment may choose the same name.

`ray start` does the same for a single node, in a process with its own copy of Ray's libraries; its addresses
are never loopback ones (`cluster/connection/loopback.py`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.utils import write_ray_address


def main() -> None:
    """Start the nodes, create the file `ready`, and wait until a process of the head has ended."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    head = start_node(settings["head"])
    # Without this file of `ray start`, Ray gives a job the address of any cluster that it finds on the host.
    write_ray_address(head.gcs_address, head.get_temp_dir_path())
    workers = [start_node({**node, "gcs_address": head.gcs_address}) for node in settings["workers"]]
    Path(settings["ready"]).touch()
    while not (dead := head.dead_processes()):
        time.sleep(1)
        for worker in workers:
            worker.dead_processes()  # releases their process ids
    # The processes of all nodes are stopped by exit handlers.
    sys.exit(f"the head node has lost its {dead[0][0]}")


def start_node(parameters: dict[str, Any]) -> Node:
    """Start the processes of a node and wait until the cluster lists it; without a GCS address, the head."""
    is_head = "gcs_address" not in parameters
    return Node(RayParams(**parameters), head=is_head, shutdown_at_exit=True, spawn_reaper=True)


if __name__ == "__main__":
    main()

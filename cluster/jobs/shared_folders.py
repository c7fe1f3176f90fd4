"""Local paths of a job on a cluster of several hosts: they must be folders that all of these share.

This host cannot look into the folders of the nodes. So it warns here, before the job starts, and the job
itself checks the folders when it starts (`cluster/connection/shared_folders.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.connection.nodes import Node
from pipeline.io.text import plural


def describe_local_paths(paths: Mapping[str, str], nodes: Sequence[Node]) -> str:
    """Return one line about paths that several hosts must share; empty if there are none.

    Args:
        paths: paths on the nodes' file systems, by flag.
        nodes: nodes of the cluster.
    """
    hosts = {node.address for node in nodes if node.alive}
    if len(hosts) < 2 or not paths:
        return ""
    flags = ", ".join(f"{flag} {path}" for flag, path in paths.items())
    return (
        f"{flags}: must be the same on all {plural(len(hosts), 'node')} (NFS, EFS, Filestore); "
        "if only one has it, use s3:// or gs:// instead"
    )

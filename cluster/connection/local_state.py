"""State file of the local cluster that `melray cluster up` started: addresses, token file and processes."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from pathlib import Path

import psutil

from models.config import Config, ConfigError
from pipeline.io.errors import report_os_errors
from pipeline.io.files import write_text_atomically

# Output of the process of the nodes, in the folder of the cluster.
LOG_NAME = "supervisor.log"


class ProcessRef(Config):
    """Process id with start time, which guards against reuse of the id."""

    pid: int
    started: float
    """Seconds since 1970."""

    @classmethod
    def of(cls, process: psutil.Process) -> ProcessRef:
        """Return the reference of a running process."""
        return cls(pid=process.pid, started=process.create_time())

    def find(self) -> psutil.Process | None:
        """Return the process if it is still running."""
        try:
            process = psutil.Process(self.pid)
            # The system derives the start time from its clock, which may have been adjusted since.
            same = abs(process.create_time() - self.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if same else None


class LocalCluster(Config):
    """Cluster of one or more nodes on this host."""

    address: str
    """Address of the head's GCS, `host:port`."""
    dashboard: str
    """URL of the dashboard, which accepts jobs: `http://host:port`."""
    token: Path
    """Token file."""
    folder: Path
    """Folder of Ray's sockets and logs."""
    nodes: int
    """Number of nodes including the head."""
    cpus: int
    """CPUs of each node."""
    supervisor: ProcessRef
    """Process that started the nodes; they and it end together."""

    @property
    def is_running(self) -> bool:
        """Whether the process of the nodes is running."""
        return self.supervisor.find() is not None


def state_path() -> Path:
    """Return melray's folder, MELRAY_HOME or ~/.melray; it may not exist."""
    return Path(os.environ.get("MELRAY_HOME") or Path.home() / ".melray").absolute()


def state_dir() -> Path:
    """Create and return melray's folder, accessible to this user only.

    Raises:
        UserError: it cannot be created.
    """
    folder = state_path()
    with report_os_errors("creating the folder of MELRAY_HOME,", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    return folder


def cluster_name() -> str:
    """Return the stem of the names of the local cluster's files.

    On Linux it holds the name of the host, since hosts of a cluster may share the user's home.
    """
    host = re.sub(r"[^\w.-]", "-", platform.node()) if sys.platform == "linux" else ""
    return f"cluster-{host}" if host else "cluster"


def local_cluster() -> LocalCluster | None:
    """Return the last cluster that was started and not stopped; it may have crashed, see `is_running`."""
    path = state_path() / f"{cluster_name()}.json"
    try:
        return LocalCluster.parse(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); delete it") from None


def running_cluster() -> LocalCluster | None:
    """Return the cluster of `melray cluster up` if it is running."""
    cluster = local_cluster()
    return cluster if cluster is not None and cluster.is_running else None


def ended_cluster() -> str:
    """Return that the cluster of `melray cluster up` has ended by itself; empty if it has not.

    Its host was restarted, for example, or one of its processes was killed.
    """
    cluster = local_cluster()
    if cluster is None or cluster.is_running:
        return ""
    log = cluster.folder / LOG_NAME
    reason = f" (see {log})" if log.is_file() else ""
    return f"the cluster of `melray cluster up` has ended{reason}; start it again by that command"


def save_state(cluster: LocalCluster) -> None:
    """Replace the state file atomically."""
    write_text_atomically(state_dir() / f"{cluster_name()}.json", json.dumps(cluster.to_dict(), indent=1))


def clear_state() -> None:
    """Delete the state file."""
    (state_path() / f"{cluster_name()}.json").unlink(missing_ok=True)

"""What `melray cluster up` started, in a file of the user: its addresses, its token's file and its processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil

from models.config import Config, ConfigError
from pipeline.io.errors import report_os_errors
from pipeline.io.files import write_text_atomically


class ProcessRef(Config):
    """A process, so that another one that got the same id later is not taken for it."""

    pid: int
    started: float
    """Seconds since 1970."""

    @classmethod
    def of(cls, process: psutil.Process) -> ProcessRef:
        """The mark of a running process."""
        return cls(pid=process.pid, started=process.create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            # The system derives the time from its clock, which may have been set since.
            same = abs(process.create_time() - self.started) < 2 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if same else None


class LocalCluster(Config):
    """A cluster of this machine."""

    address: str
    """Where Ray's own protocol is spoken, `host:port`."""
    dashboard: str
    """Where jobs are submitted, `http://host:port`."""
    token: Path
    """File of its token."""
    folder: Path
    """Folder of Ray's sockets and logs."""
    cpus: int
    """CPUs of each node."""
    nodes: tuple[ProcessRef, ...]
    """The process that holds each node; the first is the head."""

    @property
    def runs(self) -> bool:
        """Whether its head does."""
        return self.nodes[0].find() is not None


def state_dir() -> Path:
    """Folder of melray's own files, which only this user may enter: MELRAY_HOME, or ~/.melray."""
    folder = Path(os.environ.get("MELRAY_HOME") or Path.home() / ".melray").absolute()
    with report_os_errors("creating", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    return folder


def local_cluster() -> LocalCluster | None:
    """The cluster that was last started and not ended; `runs` tells whether it is still there."""
    path = state_dir() / "cluster.json"
    try:
        return LocalCluster.parse(json.loads(path.read_text()), str(path))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}); delete it") from None


def running_cluster() -> LocalCluster | None:
    """The cluster of `melray cluster up`, if it runs."""
    cluster = local_cluster()
    return cluster if cluster is not None and cluster.runs else None


def save_state(cluster: LocalCluster) -> None:
    """Writes the file anew, in one step."""
    write_text_atomically(state_dir() / "cluster.json", json.dumps(cluster.to_dict(), indent=1))


def clear_state() -> None:
    """There is no cluster any more."""
    (state_dir() / "cluster.json").unlink(missing_ok=True)

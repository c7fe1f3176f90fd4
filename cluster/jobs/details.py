"""Jobs of a cluster as its dashboard describes them, by Ray's REST API: without importing Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cluster.connection.address import JobServer
from cluster.connection.dashboard import NotFoundError, get_json
from pipeline.io.errors import UserError

STOPPED = 130  # the exit code after an interrupt


class JobDetails(NamedTuple):
    """State of a submitted job; the fields are those of Ray's class of this name."""

    submission_id: str
    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    entrypoint: str
    metadata: Mapping[str, str]
    message: str
    """What Ray says about the state."""
    driver_exit_code: int | None
    """Negative for a signal; None if the command did not start or has not ended."""
    start_time: int
    """Milliseconds since 1970; 0 if it has not started."""
    end_time: int
    driver_node_id: str | None
    """Node that runs the command."""

    @property
    def has_ended(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")

    @property
    def seconds(self) -> float:
        """Duration of a job that has ended."""
        return max(0, self.end_time - self.start_time) / 1000

    @property
    def exit_code(self) -> int:
        """Exit code of a job that has ended, as a shell would give it; 0 while it is running."""
        if self.status == "FAILED":
            code = self.driver_exit_code
            return 1 if not code else 128 - code if code < 0 else code
        return STOPPED if self.status == "STOPPED" else 0

    @property
    def failure_reason(self) -> str:
        """Why a job failed, in one line: its exit code, or what prevented its start."""
        if self.driver_exit_code is not None:
            return f"exit code {self.driver_exit_code}"
        lines = self.message.strip().splitlines()
        return lines[-1].strip() if lines else "no reason given"


def parse_job(entry: Mapping[str, Any]) -> JobDetails:
    """Return the details of a job from its entry in the dashboard's response."""
    return JobDetails(
        entry["submission_id"],
        entry["status"],
        entry["entrypoint"],
        entry.get("metadata") or {},
        entry.get("message") or "",
        entry.get("driver_exit_code"),
        entry.get("start_time") or 0,
        entry.get("end_time") or 0,
        entry.get("driver_node_id"),
    )


def read_jobs(server: JobServer) -> list[JobDetails]:
    """Return all jobs that were submitted to a cluster, the latest first.

    Raises:
        UserError: as `get_json`.
    """
    entries = get_json(server, "/api/jobs/")
    jobs = [parse_job(entry) for entry in entries if entry.get("submission_id")]
    return sorted(jobs, key=lambda job: -job.start_time)


def read_job(server: JobServer, job_id: str) -> JobDetails:
    """Return the details of a job.

    Raises:
        NoResponseError: no response.
        UserError: the cluster does not know the job, or as `get_json`.
    """
    try:
        return parse_job(get_json(server, f"/api/jobs/{job_id}"))
    except NotFoundError:
        raise UserError(
            f"{server.url} does not know {job_id}: `melray jobs` lists its jobs; "
            "the restart of a head node deletes them"
        ) from None


def read_log(server: JobServer, job_id: str) -> str:
    """Return the log of a job.

    Raises:
        UserError: as `get_json`.
    """
    return str(get_json(server, f"/api/jobs/{job_id}/logs")["logs"])


def find_job(server: JobServer, job_id: str) -> JobDetails:
    """Return the details of a job that a user names.

    Raises:
        UserError: no job of this id; the message names the closest one.
    """
    import difflib

    jobs = {job.submission_id: job for job in read_jobs(server)}
    if job_id in jobs:
        return jobs[job_id]
    matches = difflib.get_close_matches(job_id, jobs, n=1)
    hint = f"did you mean '{matches[0]}'?" if matches else "`melray jobs` lists them"
    raise UserError(f"no job '{job_id}'; {hint}")

"""Where the logs of a job are: on the dashboard, and on the disk of a node."""

from __future__ import annotations

from urllib.parse import quote

from cluster.connection.address import JobServer
from cluster.connection.dashboard import get_json
from cluster.jobs.details import JobDetails
from pipeline.io.errors import UserError


def dashboard_page(server: JobServer, job_id: str) -> str:
    """Return the URL of a job's page on the dashboard, with its log."""
    return f"{server.url}/#/jobs/{quote(job_id)}"


def installation_log(server: JobServer) -> str:
    """Return where pip's output is while the packages of a job are installed."""
    return f"runtime_env_setup-*.log at {server.url}/#/logs"


def driver_log(server: JobServer, job: JobDetails) -> str:
    """Return node and path of the log file of a job, such as `10.0.0.4:/tmp/ray/…`; empty if it has none."""
    if not job.driver_node_id:
        return ""
    try:
        raylet = get_json(server, f"/nodes/{job.driver_node_id}")["data"]["detail"]["raylet"]
        folder = f"{raylet['nodeManagerAddress']}:{raylet['sessionDir']}"
    except (UserError, KeyError, TypeError):  # a node that was removed, or a Ray that does not say it
        return ""
    return f"{folder}/logs/job-driver-{job.submission_id}.log"

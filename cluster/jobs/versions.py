"""Versions of a cluster, compared before submission with those that melray needs."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from cluster.connection.address import JobServer
from cluster.connection.dashboard import get_json
from pipeline.io.console import logger
from pipeline.io.errors import UserError

# melray locks files and forks processes as POSIX systems do.
PLATFORMS = ("linux", "darwin")
# Of the oldest Linux for which torch is built (manylinux_2_28).
MIN_GLIBC = Version("2.28")


class ClusterVersions(NamedTuple):
    """Versions of a cluster's head node; empty where it does not report one."""

    ray: str
    python: str = ""
    platform: str = ""
    """As `sys.platform`; reported only with Ray's usage statistics, as is `libc`."""
    libc: str = ""
    """Such as `glibc:2.39`."""


def read_versions(server: JobServer) -> ClusterVersions:
    """Return the versions of a cluster.

    Raises:
        UserError: as `get_json`.
    """
    data = get_json(server, "/api/v0/cluster_metadata")["data"]
    return ClusterVersions(
        data["rayVersion"], data.get("pythonVersion", ""), data.get("os", ""), data.get("libcVersion", "")
    )


def check_versions(url: str, versions: ClusterVersions, root: Path, installs: bool) -> None:
    """Compare the versions of the cluster at `url` with those that the checkout `root` needs.

    Args:
        installs: whether the job installs its packages.

    Raises:
        UserError: Ray, Python or the platform does not suit.
    """
    project = _read_project(root)
    if not _satisfies(versions.ray, _ray_requirement(project).specifier):
        raise UserError(
            f"--address {url}: the cluster runs Ray {versions.ray}, melray needs "
            f"{_ray_requirement(project).specifier}; install that release on all its nodes"
        )
    python = SpecifierSet(project["requires-python"])
    if versions.python and not _satisfies(versions.python, python):
        raise UserError(
            f"--address {url}: the cluster runs Python {versions.python}, melray needs {python}; "
            "start it with one of these"
        )
    if versions.platform and versions.platform not in PLATFORMS:
        raise UserError(
            f"--address {url}: the cluster runs on {versions.platform}, melray on Linux and macOS"
        )
    if installs and _is_old_glibc(versions.libc):
        raise UserError(
            f"--address {url}: the cluster has {versions.libc.replace(':', ' ')}, "
            f"torch needs glibc {MIN_GLIBC}; use images of a newer Linux"
        )
    tested = _tested_ray(root)
    if tested and versions.ray != tested:
        logger.info("the cluster runs Ray %s; melray is tested with %s", versions.ray, tested)


def _read_project(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _ray_requirement(project: dict[str, Any]) -> Requirement:
    return next(item for item in map(Requirement, project["dependencies"]) if item.name == "ray")


def _tested_ray(root: Path) -> str:
    """Return the release of Ray in the constraints."""
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("ray==") for line in lines if line.startswith("ray==")), "")


def _satisfies(version: str, specifier: SpecifierSet) -> bool:
    """Return whether a version suits, or is none that can be compared."""
    try:
        return specifier.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def _is_old_glibc(libc: str) -> bool:
    name, _, version = libc.partition(":")
    try:
        return name == "glibc" and Version(version) < MIN_GLIBC
    except InvalidVersion:
        return False

"""Comparison of a cluster's versions with those that melray needs."""

from __future__ import annotations

import logging
import re
from importlib.metadata import version
from platform import python_version

import pytest

from cluster.jobs.package import project_root
from cluster.jobs.versions import ClusterVersions, check_versions
from pipeline.io.console import logger
from pipeline.io.errors import UserError

RAY, PYTHON = version("ray"), python_version()


def check(versions: ClusterVersions, installs: bool = True) -> None:
    check_versions("http://h:8265", versions, project_root(), installs)


def test_other_release_of_ray_is_accepted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    logger.propagate = True
    with caplog.at_level(logging.INFO):
        check(ClusterVersions(RAY, PYTHON))
        assert not caplog.messages
        check(ClusterVersions("2.99.1", "3.12.1"))
    assert caplog.messages == [f"the cluster runs Ray 2.99.1; melray is tested with {RAY}"]


@pytest.mark.parametrize("unknown", ["", "nightly"])
def test_unknown_version_is_accepted(unknown: str) -> None:
    check(ClusterVersions(RAY, unknown, libc=unknown))


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        (ClusterVersions("2.9.3", PYTHON), "the cluster runs Ray 2.9.3, melray needs >=2."),
        (ClusterVersions(RAY, "3.10.12"), "the cluster runs Python 3.10.12, melray needs "),
        (ClusterVersions(RAY, PYTHON, "win32"), "the cluster runs on win32, melray on Linux and macOS"),
        (
            ClusterVersions(RAY, PYTHON, "linux", "glibc:2.17"),
            "the cluster has glibc 2.17, torch needs glibc 2.28",
        ),
    ],
)
def test_unsuitable_cluster_is_a_one_line_error(versions: ClusterVersions, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"--address http://h:8265: {message}")) as error:
        check(versions)
    assert "\n" not in str(error.value)


def test_old_glibc_is_accepted_with_preinstalled_packages() -> None:
    check(ClusterVersions(RAY, PYTHON, "linux", "glibc:2.17"), installs=False)

"""Settings of Ray that a session derives from its environment, without starting Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.connection.search_path import worker_job_config

# Prints the CPUs for Ray when the system leaves one to the process.
ONE_CPU = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from pipeline.distributed.this_host import host_cpus
print(host_cpus())
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
def test_ray_gets_only_cpus_of_the_process() -> None:
    output = subprocess.run(
        [sys.executable, "-c", ONE_CPU], capture_output=True, text=True, check=True
    ).stdout
    assert output == "1\n"


def test_workers_search_melray_but_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = worker_job_config()
    # Ray adds the folders of the driver only to jobs without a working directory.
    assert config._runtime_env_has_working_dir()
    assert config._py_driver_sys_path == [str(Path(__file__).parents[3])]

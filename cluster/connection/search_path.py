"""Search path of Ray's workers: the driver's folder is not on it, melray's own is."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_config import JobConfig


def worker_job_config() -> JobConfig:
    """Return the settings of a driver's workers.

    By default Ray puts the folder of the script and the current folder first on `sys.path` of all workers: a
    `models.py` or `numpy.py` of the user would be imported there. It does so unless the job has a working
    directory of its own, which would have to be uploaded, and unpacked before the first worker starts.
    """
    from ray.job_config import JobConfig

    class WithoutDriverFolders(JobConfig):
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    root = Path(__file__).resolve().parents[2]
    # Workers find an installed copy by themselves; `python -m` also runs one that is not installed.
    installed = str(root) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return WithoutDriverFolders(_py_driver_sys_path=[] if installed else [str(root)])

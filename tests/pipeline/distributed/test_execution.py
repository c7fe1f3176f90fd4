"""Choice between processes of this host and Ray."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipeline.distributed import execution as module
from pipeline.distributed.execution import (
    MAX_SECONDS_WITHOUT_RAY,
    Execution,
    execution,
    local_cpus,
    runs_here,
    start_ray,
)
from pipeline.io.errors import UserError

SMALL, LARGE = 2.0, 100 * MAX_SECONDS_WITHOUT_RAY


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return a list that is not empty once Ray was started, which it is not really."""
    starts: list[str] = []
    monkeypatch.setattr(module, "uses_ray", lambda: bool(starts))
    return starts


@pytest.mark.parametrize(
    ("use_ray", "core_seconds", "here", "message"),
    [
        (
            None,
            SMALL,
            True,
            "running in processes of this host: about 1.0 s of work on 2 CPUs (--ray: on Ray)",
        ),
        (None, LARGE, False, "starting Ray: about 8 min 20 s of work on 2 CPUs (--no-ray: in processes of"),
        (True, SMALL, False, None),
        (False, LARGE, True, "running in processes of this host: about 8 min 20 s of work"),
    ],
)
def test_work_runs_where_its_amount_says(
    use_ray: bool | None,
    core_seconds: float,
    here: bool,
    message: str | None,
    started: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Execution(use_ray, 2, lambda: started.append("Ray"))
    with execution(settings), caplog.at_level(logging.INFO, logger="melray"):
        assert runs_here(core_seconds) == here
        assert len(caplog.messages) == (message is not None)
        assert message is None or caplog.messages[0].startswith(message)
        assert bool(started) != here


def test_open_session_runs_all_work(started: list[str]) -> None:
    with execution(Execution(None, 2, lambda: started.append("Ray"))):
        start_ray("a reason")
        start_ray("a reason")
        assert started == ["Ray"]
        assert not runs_here(SMALL)


def test_what_needs_ray_is_an_error_without(started: list[str]) -> None:
    with (
        execution(Execution(False, 2, lambda: started.append("Ray"))),
        pytest.raises(UserError, match=r"^--no-ray: --workers 2 needs Ray; drop one of them$"),
    ):
        start_ray("--workers 2")
    assert not started


def test_settings_hold_within_the_block() -> None:
    before = local_cpus()
    with execution(Execution(cpus=before + 7)):
        assert local_cpus() == before + 7
    assert local_cpus() == before


def test_deciding_does_not_import_ray() -> None:
    code = (
        "import sys; from pipeline.distributed.execution import runs_here; runs_here(0.1); "
        "print({'ray', 'torch', 'pandas'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"

"""Batch jobs in worker processes of this host: the same files as in one process; lost workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.distributed.attempts import MAX_LOST
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.process_runner import ProcessRunner, SizedRunner
from pipeline.distributed.processes import start_fork_server, stop_fork_server
from pipeline.distributed.quarantine import CRASH_REASON
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import ShardWriter, extract
from pipeline.io.errors import UserError
from tests.helpers.sounds import SMALL_FEATURES, extract_config, write_tones
from tests.integration.test_quarantine import CrashingWriter, HangingWriter


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    start_fork_server(["tests.integration.test_quarantine"])
    yield write_tones(tmp_path_factory.mktemp("tones"))
    stop_fork_server()


class DyingWriter(ShardWriter):
    """Shard writer whose process is killed after the clips were read, as for lack of memory."""

    def __call__(self, unit: WorkUnit) -> Any:
        super().__call__(unit)
        unit.path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingOnceWriter(ShardWriter):
    """Shard writer whose process is killed at the first unit, once."""

    def __call__(self, unit: WorkUnit) -> Any:
        marker = unit.folder / "killed"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(unit)


def with_writer(writer: type[ShardWriter], *arguments: Any) -> Any:
    """Return a runner that replaces the stage of an extraction."""

    def run(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        return ProcessRunner(2, "use less memory")(units, [partial(writer, *arguments)])

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_files_equal_those_of_one_process(data: Path, tmp_path: Path) -> None:
    expected = extract_config(data, tmp_path / "one")
    extract(expected, run_in_process)
    config = extract_config(data, tmp_path / "several")
    extract(config, ProcessRunner(2))
    assert contents(config.out) == contents(expected.out)


def test_small_extraction_needs_no_ray(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = extract_config(data, tmp_path / "out")
    with caplog.at_level("INFO", logger="melray"):
        assert extract(config).clips == 30
    assert any(line.startswith("running in processes of this host: about") for line in caplog.messages)


def test_unit_of_lost_process_is_repeated(data: Path, tmp_path: Path) -> None:
    config = extract_config(data, tmp_path / "out")
    manifest = extract(config, with_writer(DyingOnceWriter, SMALL_FEATURES, config.augment))
    assert manifest.clips == 30 and (config.out / "killed").is_file()
    assert not (config.out / ".attempts").exists()


def test_unit_that_always_loses_its_process_fails(data: Path, tmp_path: Path) -> None:
    config = extract_config(data, tmp_path / "out")
    with pytest.raises(UserError, match=f"lost {MAX_LOST} times at .* lack of memory: use less memory;"):
        extract(config, with_writer(DyingWriter, SMALL_FEATURES, config.augment))


@pytest.mark.parametrize(("writer", "timeout_s"), [(CrashingWriter, 0.0), (HangingWriter, 2.0)])
def test_clip_that_ends_its_process_is_rejected(
    writer: type[ShardWriter], timeout_s: float, data: Path, tmp_path: Path
) -> None:
    config = extract_config(data, tmp_path / "out", max_rejected=0.1)
    manifest = extract(config, with_writer(writer, SMALL_FEATURES, config.augment, timeout_s))
    assert (manifest.clips, manifest.rejected) == (29, 1)
    assert CRASH_REASON in (config.out / "rejected.csv").read_text()


def test_error_of_a_stage_is_a_value(data: Path, tmp_path: Path) -> None:
    config = extract_config(data, tmp_path / "out")
    with pytest.raises(UserError, match=r"TypeError: .* --log-level debug shows where"):
        extract(config, with_writer(ShardWriter))  # lacks its arguments


def test_sized_runner_passes_limits_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def run(self: ProcessRunner, units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Any:
        used.append(self)
        return run_in_process(units, stages)

    monkeypatch.setattr(ProcessRunner, "__call__", run)
    config = extract_config(data, tmp_path / "out")
    extract(config, SizedRunner(0.01, RayRunner(workers=3, memory_hint="hint")))
    assert used == [ProcessRunner(3, "hint")]

"""A clip that kills its worker, or never lets it go, is found and set aside; all others are as if it had never been."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import extract as stage
from pipeline.data.manifest import read_manifest
from pipeline.data.shards import open_shards, read_shard
from pipeline.distributed.batch_job import read_unit_clips, unit_to_row
from pipeline.distributed.quarantine import CRASH_REASON, MAX_CRASHES, CrashQuarantine
from pipeline.extract import extract, plan_units, run_in_process, unpack
from tests.helpers.sounds import extract_config, write_tones

DEADLY = "tone 1/2-1001-2.wav"


def deadly(row: dict[str, Any], *arguments: Any) -> dict[str, str]:
    """`write_unit` with a decoder that takes the process along at one clip."""
    return spoilt(lambda: os.kill(os.getpid(), signal.SIGKILL), row, *arguments)


def stuck(row: dict[str, Any], *arguments: Any) -> dict[str, str]:
    """`write_unit` with a decoder that never returns from one clip, and lets no other thread of Python's run."""
    # One call of C that holds the interpreter.
    return spoilt(lambda: ctypes.PyDLL(None).sleep(100), row, *arguments[:3], 1.0)


def spoilt(act: Callable[[], object], row: dict[str, Any], *arguments: Any) -> dict[str, str]:
    real = stage.clip_rows

    def clip_rows(source: Any, clip_id: str, *more: Any) -> Any:
        if clip_id == DEADLY:
            act()
        return real(source, clip_id, *more)

    stage.clip_rows = clip_rows
    try:
        return stage.write_unit(row, *arguments)
    finally:
        stage.clip_rows = real


def begun(out: Path, *clips: str) -> list[bool]:
    """Which of them an attempt at the unit may read, if it dies at the last."""
    with CrashQuarantine(out, "unit") as attempts:
        return [attempts.begin(clip) for clip in clips]


def test_attempts_are_counted_by_the_clip_that_was_at_work(tmp_path: Path) -> None:
    assert begun(tmp_path, "a", "b") == [True, True]  # here it dies: nobody knows where
    for _ in range(MAX_CRASHES):
        assert begun(tmp_path, "a", "b") == [True, True]  # and here it dies at b
    assert begun(tmp_path, "a", "b", "c") == [True, False, True]
    CrashQuarantine(tmp_path, "unit").end()
    assert not list((tmp_path / ".attempts").iterdir())
    assert begun(tmp_path, "b") == [True]  # a new job starts anew


def test_half_a_note_is_no_note(tmp_path: Path) -> None:
    begun(tmp_path, "a")
    (tmp_path / ".attempts/unit.json").write_text('{"dea')
    assert begun(tmp_path, "a") == [True]


@pytest.mark.parametrize("at_work", [deadly, stuck])
def test_a_deadly_clip_is_set_aside_and_the_others_are_the_same(
    at_work: Callable[..., Any], tmp_path: Path
) -> None:
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "out", max_rejected=0.1)
    config.out.mkdir()
    units = plan_units(read_manifest(data, config).clips, config)
    unit = next(
        unit for unit in units if DEADLY in {clip["clip_id"] for clip in read_unit_clips(unit_to_row(unit))}
    )
    fork = multiprocessing.get_context("fork")
    deaths = 0
    for _ in range(MAX_CRASHES + 3):
        process = fork.Process(
            target=at_work, args=(unit_to_row(unit), config.out, config.features, config.augment)
        )
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        deaths += 1
    assert deaths == MAX_CRASHES + 1 and (config.out / unit.name).is_file()
    extract(config, run_in_process)
    calm = extract(extract_config(data, tmp_path / "calm"), run_in_process)
    rejected = (config.out / "rejected.csv").read_text()
    assert DEADLY in rejected and CRASH_REASON in rejected and not (config.out / ".attempts").exists()
    assert rows(config.out) == {key: mel for key, mel in rows(tmp_path / "calm").items() if key[0] != DEADLY}
    assert calm.rejected == 0


def rows(out: Path) -> dict[tuple[str, int], bytes]:
    tables = [read_shard(out / part.name) for part in open_shards(out).parts]
    return {(row["clip_id"], row["copy"]): row["mel"] for table in tables for row in table.to_pylist()}


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("at_work", [deadly, stuck])
def test_ray_tries_again_and_the_job_ends(
    at_work: Callable[..., Any], tmp_path: Path, ray_session: Iterator[None]
) -> None:
    from pipeline.distributed.batch_job import dataset_of_units, iter_single_stage

    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "out", max_rejected=0.1)
    made = extract(
        config,
        lambda units, c: map(
            unpack,
            iter_single_stage(dataset_of_units(units).map(at_work, fn_args=(c.out, c.features, c.augment))),
        ),
    )
    assert (
        made.rejected == 1 and made.clips == 29 and CRASH_REASON in (config.out / "rejected.csv").read_text()
    )

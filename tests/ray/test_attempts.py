"""A clip that kills its worker is found and set aside; all others are as if it had never been."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import extract as stage
from pipeline.attempts import DEATHS, REASON, Attempts
from pipeline.extract import extract, plan_units, run_here, unpack
from pipeline.manifest import read_manifest
from pipeline.shards import open_shards, read_part
from pipeline.units import clips_of, pack
from tests.sounds import extract_config, write_tones

DEADLY = "tone 1/2-1001-2.wav"


def deadly(row: dict[str, Any], *arguments: Any) -> dict[str, str]:
    """`make_part` with a decoder that takes the process along at one clip."""
    real = stage.clip_rows

    def clip_rows(source: Any, clip_id: str, *more: Any) -> Any:
        if clip_id == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(source, clip_id, *more)

    stage.clip_rows = clip_rows
    try:
        return stage.make_part(row, *arguments)
    finally:
        stage.clip_rows = real


def test_attempts_are_counted_by_the_clip_that_was_at_work(tmp_path: Path) -> None:
    first = Attempts(tmp_path, "unit")
    assert first.begin("a") and first.begin("b")  # here it dies: nobody knows where
    for _ in range(DEATHS):
        again = Attempts(tmp_path, "unit")
        assert again.begin("a") and again.begin("b")  # and here it dies at b
    last = Attempts(tmp_path, "unit")
    assert last.begin("a") and not last.begin("b") and last.begin("c")
    last.end()
    assert not list((tmp_path / ".attempts").iterdir())
    assert Attempts(tmp_path, "unit").begin("b")  # a new job starts anew


def test_half_a_note_is_no_note(tmp_path: Path) -> None:
    Attempts(tmp_path, "unit")
    (tmp_path / ".attempts/unit.json").write_text('{"dea')
    assert Attempts(tmp_path, "unit").begin("a")


def test_a_deadly_clip_is_set_aside_and_the_others_are_the_same(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "out", max_rejected=0.1)
    config.out.mkdir()
    units = plan_units(read_manifest(data, config).clips, config)
    unit = next(unit for unit in units if DEADLY in {clip["clip_id"] for clip in clips_of(pack(unit))})
    fork = multiprocessing.get_context("fork")
    deaths = 0
    for _ in range(DEATHS + 3):
        process = fork.Process(target=deadly, args=(pack(unit), config.out, config.features, config.augment))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        deaths += 1
    assert deaths == DEATHS + 1 and (config.out / unit.name).is_file()
    extract(config, run_here)
    calm = extract(extract_config(data, tmp_path / "calm"), run_here)
    rejected = (config.out / "rejected.csv").read_text()
    assert DEADLY in rejected and REASON in rejected and not (config.out / ".attempts").exists()
    assert rows(config.out) == {key: mel for key, mel in rows(tmp_path / "calm").items() if key[0] != DEADLY}
    assert calm.rejected == 0


def rows(out: Path) -> dict[tuple[str, int], bytes]:
    tables = [read_part(out / part.name) for part in open_shards(out).parts]
    return {(row["clip_id"], row["copy"]): row["mel"] for table in tables for row in table.to_pylist()}


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_ray_tries_again_and_the_job_ends(tmp_path: Path, ray_session: Iterator[None]) -> None:
    from pipeline.ray_data import from_units, rows_of_one_stage

    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "out", max_rejected=0.1)
    made = extract(
        config,
        lambda units, c: map(unpack, rows_of_one_stage(from_units(units).map(deadly, fn_args=(c.out, c.features, c.augment)))),
    )
    assert made.rejected == 1 and made.clips == 29 and REASON in (config.out / "rejected.csv").read_text()

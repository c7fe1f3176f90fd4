"""A clip that crashes or blocks its worker process is rejected, and all other rows stay the same."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.data import extraction
from pipeline.data.feature_choice import choose_features
from pipeline.data.manifest import cut_windows, read_manifest
from pipeline.data.shard_manifest import open_shards
from pipeline.data.shards import read_shard
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.process_runner import ProcessRunner
from pipeline.distributed.quarantine import CRASH_REASON, MAX_CRASHES, CrashQuarantine
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import ExtractConfig, ShardWriter, extract, plan_job
from tests.helpers.annotated import write_recordings
from tests.helpers.s3_server import s3_server
from tests.helpers.sounds import SMALL_FEATURES, extract_config, write_tones

BAD_CLIP = "tone 1/2-1001-2.wav"
BAD_WINDOW = "rec 0.wav@000002.500"


class CrashingWriter(ShardWriter):
    """Shard writer with a decoder that crashes the process at one clip."""

    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def __call__(self, unit: WorkUnit) -> Any:
        spectrogram_rows = extraction.spectrogram_rows

        def fail_at_bad_clip(source: Any, clip_id: str, *arguments: Any) -> Any:
            if clip_id == BAD_CLIP:
                self.fail()
            return spectrogram_rows(source, clip_id, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extraction, "spectrogram_rows", fail_at_bad_clip)
            return super().__call__(unit)


class HangingWriter(CrashingWriter):
    """Shard writer with a decoder that hangs at one clip, and blocks all Python threads of the process."""

    def fail(self) -> None:
        # A call into C that does not release the interpreter.
        ctypes.PyDLL(None).sleep(100)


class WindowCrashingWriter(ShardWriter):
    """Shard writer whose process is killed at one window of a recording."""

    def __call__(self, unit: WorkUnit) -> Any:
        sample_rows = extraction.sample_rows

        def fail_at_bad_window(samples: Any, clip_id: str, *arguments: Any) -> Any:
            if clip_id == BAD_WINDOW:
                os.kill(os.getpid(), signal.SIGKILL)
            return sample_rows(samples, clip_id, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extraction, "sample_rows", fail_at_bad_window)
            return super().__call__(unit)


def read_clips(out: Path, *clip_ids: str) -> list[bool]:
    """Return which clips an attempt at a unit may read, if it crashes at the last one."""
    quarantine = CrashQuarantine(out, "unit").__enter__()  # never left
    return [quarantine.begin(clip_id) for clip_id in clip_ids]


def read_rows(out: Path) -> dict[tuple[str, int], bytes]:
    tables = [read_shard(out / shard.name) for shard in open_shards(out).shards]
    return {(row["clip_id"], row["copy"]): row["mel"] for table in tables for row in table.to_pylist()}


def test_crashes_are_counted_per_clip(tmp_path: Path) -> None:
    assert read_clips(tmp_path, "a", "b") == [True, True]  # crashes without a record of the clip
    for _ in range(MAX_CRASHES):
        assert read_clips(tmp_path, "a", "b") == [True, True]  # crashes at b
    assert read_clips(tmp_path, "a", "b", "c") == [True, False, True]
    CrashQuarantine(tmp_path, "unit").end()
    assert not list((tmp_path / ".attempts").iterdir())
    assert read_clips(tmp_path, "b") == [True]  # a new job starts from scratch


def test_crash_after_the_last_clip_rejects_none(tmp_path: Path) -> None:
    for _ in range(MAX_CRASHES + 2):
        with CrashQuarantine(tmp_path, "unit") as quarantine:
            assert quarantine.begin("a")


def test_partially_written_record_is_ignored(tmp_path: Path) -> None:
    read_clips(tmp_path, "a")
    (tmp_path / ".attempts/unit.json").write_text('{"cra')
    assert read_clips(tmp_path, "a") == [True]


@pytest.mark.usefixtures("no_ray_session")  # processes with threads of Ray must not fork
@pytest.mark.parametrize(("writer", "timeout_s"), [(CrashingWriter, 0.0), (HangingWriter, 1.0)])
def test_crashing_clip_is_rejected_and_others_kept(
    writer: type[CrashingWriter], timeout_s: float, tmp_path: Path
) -> None:
    data = write_tones(tmp_path / "data")
    config = extract_config(data, tmp_path / "out", max_rejected=0.1)
    units = plan_job(read_manifest(data, config).clips, config, SMALL_FEATURES).units
    unit = next(unit for unit in units if BAD_CLIP in {clip["clip_id"] for clip in unit.read_clips()})
    fork = multiprocessing.get_context("fork")
    crashes = 0
    for _ in range(MAX_CRASHES + 3):
        process = fork.Process(target=writer(SMALL_FEATURES, config.augment, timeout_s), args=(unit,))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        crashes += 1
    assert crashes == MAX_CRASHES + 1 and unit.path.is_file()
    extract(config, run_in_process)
    expected = extract(extract_config(data, tmp_path / "expected"), run_in_process)
    rejected = (config.out / "rejected.csv").read_text()
    assert BAD_CLIP in rejected and CRASH_REASON in rejected and not (config.out / ".attempts").exists()
    expected_rows = read_rows(tmp_path / "expected")
    assert read_rows(config.out) == {key: mel for key, mel in expected_rows.items() if key[0] != BAD_CLIP}
    assert expected.rejected == 0


@pytest.mark.slow
def test_crashing_clip_in_object_store_is_rejected(tmp_path: Path) -> None:
    """Clips that are read ahead do not hide which one crashes the process."""
    with s3_server(latency_s=0.01) as server:
        data = server.bucket("sounds", write_tones(tmp_path / "data"))
        config = extract_config(data, server.bucket("results") / "out", max_rejected=0.1)

        def runner(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
            return ProcessRunner(1)(units, [partial(CrashingWriter, SMALL_FEATURES, config.augment)])

        manifest = extract(config, runner)
        assert (manifest.clips, manifest.rejected) == (29, 1)
        assert CRASH_REASON in (config.out / "rejected.csv").read_text()
        assert not list((config.out / ".attempts").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(170)
# The first clip of a new worker process includes imports: several seconds on a busy host.
@pytest.mark.parametrize(("writer", "timeout_s"), [(CrashingWriter, 0.0), (HangingWriter, 10.0)])
def test_ray_retries_until_crashing_clip_is_rejected(
    writer: type[CrashingWriter], timeout_s: float, tmp_path: Path, ray_session: None
) -> None:
    config = extract_config(write_tones(tmp_path / "data"), tmp_path / "out", max_rejected=0.1)

    def runner(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
        return RayRunner()(units, [partial(writer, SMALL_FEATURES, config.augment, timeout_s)])

    manifest = extract(config, runner)
    assert (manifest.clips, manifest.rejected) == (29, 1)
    assert CRASH_REASON in (config.out / "rejected.csv").read_text()


@pytest.mark.usefixtures("no_ray_session")
def test_crashing_window_is_rejected_and_others_kept(tmp_path: Path) -> None:
    write_recordings(tmp_path / "data", count=1)
    settings = {"annotations": "auto", "window": 1.0, "hop": 0.5, "background_ratio": 0.5}
    config = ExtractConfig(data=tmp_path / "data", out=tmp_path / "out", max_rejected=0.5, **settings)
    manifest = cut_windows(read_manifest(config.data, config), config, config.seed)
    features = choose_features(config.clip_features, manifest, None)
    units = plan_job(manifest.clips, config, features).units
    unit = next(unit for unit in units if BAD_WINDOW in {clip["clip_id"] for clip in unit.read_clips()})
    fork = multiprocessing.get_context("fork")
    exit_codes: list[int | None] = []
    while not exit_codes or (exit_codes[-1] and len(exit_codes) < MAX_CRASHES + 3):
        process = fork.Process(target=WindowCrashingWriter(features, config.augment), args=(unit,))
        process.start()
        process.join()
        exit_codes.append(process.exitcode)
    assert exit_codes == [-signal.SIGKILL] * (MAX_CRASHES + 1) + [0]
    assert extract(config, run_in_process).rejected == 1
    kept = {clip_id for clip_id, _ in read_rows(config.out)}
    assert kept == set(manifest.clips["clip_id"]) - {BAD_WINDOW}
    rejected = (config.out / "rejected.csv").read_text()
    assert BAD_WINDOW in rejected and CRASH_REASON in rejected

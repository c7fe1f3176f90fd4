"""Extraction end to end, against librosa or audiomentations with joblib, and against the bare kernel.

    python -m benchmarks.bench_extract --audio FOLDER_OF_CLASS_FOLDERS

Each round runs all implementations one after another on the same files; ratios are computed per round.
Processes are warm: the startup of Ray is measured separately.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import joblib
import librosa
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from benchmarks.common import convert_to_wav, save_result, summarize, summarize_ratios, timed
from cluster.connection.session import session
from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import FeatureConfig, spectrogram_rows
from pipeline.data.shard_manifest import open_shards
from pipeline.distributed.worker import disable_malloc_trim
from pipeline.extract import ExtractConfig, extract

FEATURES = FeatureConfig()
CORES = os.cpu_count() or 1


def melray(audio: Path, out: Path, copies: int) -> None:
    """Run the extraction, from audio files to published shards."""
    shutil.rmtree(out, ignore_errors=True)
    extract(ExtractConfig(data=audio, out=out, copies=copies))


def running_rate(out: Path) -> float:
    """Return clips per second between the first and the last shard, without startup and shutdown."""
    manifest = open_shards(out)
    times = sorted((out / shard.name).stat().st_mtime for shard in manifest.shards)
    return manifest.clips * (len(times) - 1) / len(times) / (times[-1] - times[0])


def librosa_rows(path: str, augment: Any) -> list[np.ndarray]:
    """Extract a clip with librosa: load, trim, fix the length, log-mel; `augment` makes the copies."""
    samples, rate = librosa.load(path, sr=FEATURES.mel.sample_rate)
    samples, _ = librosa.effects.trim(samples, top_db=FEATURES.trim_db)
    copies = [samples] + [augment(samples=samples, sample_rate=rate) for _ in range(2 if augment else 0)]
    fixed = [librosa.util.fix_length(copy, size=FEATURES.num_samples) for copy in copies]
    return [
        librosa.power_to_db(librosa.feature.melspectrogram(y=copy, sr=rate)).astype(np.float16)
        for copy in fixed
    ]


def librosa_joblib(paths: list[str], out: Path, pool: joblib.Parallel, augment: Any) -> None:
    """Extract with librosa and joblib on all cores into one Parquet file."""
    rows = [
        row
        for clip_rows in pool(joblib.delayed(librosa_rows)(path, augment) for path in paths)
        for row in clip_rows
    ]
    pq.write_table(pa.table({"mel": [row.reshape(-1) for row in rows]}), out)


def audiomentations_transform(folder: Path) -> Any:
    """Build the equivalent audiomentations transform; time stretching replaces the missing speed change."""
    import audiomentations as am

    rng = np.random.default_rng(0)
    for number in range(4):
        length = FEATURES.mel.sample_rate * (number + 1) // 4
        response = rng.standard_normal(length) * np.exp(-np.linspace(0, 6.9, length))
        soundfile.write(
            folder / f"room{number}.wav", response / np.abs(response).max(), FEATURES.mel.sample_rate
        )
    return am.OneOf(
        [
            am.Gain(min_gain_db=0, max_gain_db=0, p=1.0),
            am.AddGaussianSNR(min_snr_db=5, max_snr_db=40, p=1.0),
            am.PitchShift(min_semitones=-4, max_semitones=4, p=1.0),
            am.TimeStretch(min_rate=0.76, max_rate=1.32, leave_length_unchanged=False, p=1.0),
            am.Shift(p=1.0),
            am.ApplyImpulseResponse(ir_path=str(folder), p=1.0),
        ]
    )


def kernel(paths: list[str], copies: int) -> None:
    """Compute the spectrograms only, without Ray and output."""
    disable_malloc_trim()
    for path in paths:
        for _ in spectrogram_rows(path, path, FEATURES, AugmentConfig(copies=copies)):
            pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # With two copies a clip takes four times as long, so a quarter of the clips suffices.
        work = {0: convert_to_wav(arguments.audio, folder / "wav", arguments.repeat)}
        work[2] = convert_to_wav(arguments.audio, folder / "quarter", max(1, arguments.repeat // 4))
        warm = convert_to_wav(arguments.audio / sorted(os.listdir(arguments.audio))[0], folder / "warm" / "a")
        result: dict[str, Any] = {"rounds": arguments.rounds}
        with session():
            result["ray_first_job_seconds"] = timed(lambda: melray(warm, folder / "out", 0))
            pool = joblib.Parallel(n_jobs=CORES)
            pool(
                joblib.delayed(librosa_rows)(path, None)
                for path in map(str, sorted(warm.rglob("*.wav"))[:20])
            )
            (folder / "rooms").mkdir()
            augment = audiomentations_transform(folder / "rooms")
            for copies, audio in work.items():
                result[f"copies_{copies}"] = rounds(
                    arguments.rounds, copies, audio, folder, pool, augment if copies else None
                )
    save_result("extract", result)


def rounds(count: int, copies: int, audio: Path, folder: Path, pool: Any, augment: Any) -> dict[str, Any]:
    """Measure clips per second and ratios over `count` rounds; the slow peer gets a quarter of the clips."""
    paths = sorted(map(str, audio.rglob("*.wav")))
    subset = paths[::4]
    rates: dict[str, list[float]] = {"melray": [], "melray_running": [], "peer": [], "limit": []}
    for _ in range(count):
        rates["melray"].append(len(paths) / timed(lambda: melray(audio, folder / "out", copies)))
        rates["melray_running"].append(running_rate(folder / "out"))
        rates["peer"].append(
            len(subset) / timed(lambda: librosa_joblib(subset, folder / "peer.parquet", pool, augment))
        )
        with multiprocessing.get_context("spawn").Pool(CORES) as workers:
            workers.starmap(kernel, [(paths[:16], copies)] * CORES, chunksize=1)
            tasks = [(paths[i::CORES], copies) for i in range(CORES)]
            rates["limit"].append(len(paths) / timed(lambda: workers.starmap(kernel, tasks, chunksize=1)))  # noqa: B023
    ratios = {
        "melray_running_to_limit": summarize_ratios(rates["melray_running"], rates["limit"]),
        "melray_to_peer": summarize_ratios(rates["melray"], rates["peer"]),
        "melray_to_limit": summarize_ratios(rates["melray"], rates["limit"]),
    }
    return (
        {"clips": len(paths)}
        | {f"{name}_clips_per_second": summarize(values) for name, values in rates.items()}
        | ratios
    )


if __name__ == "__main__":
    main()

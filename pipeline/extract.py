"""Extraction: audio files to Parquet shards of log-mel spectrograms, spread over a cluster by Ray Data.

The manifest is cut into units (`pipeline/distributed/batch_job.py`). One task turns one unit into one part and gives it its final name. So
a part is there whole or not at all, a second attempt writes the same bytes, and a run after a crash, a change of settings
or of files makes just what is missing. Only names and counts travel back. `_manifest.json` comes last and makes the set
valid.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from models.config import diff_settings
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.features import AugmentConfig, FeatureConfig, Spectrogram, spectrogram_rows
from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.data.shards import (
    MANIFEST_NAME,
    REJECTED_NAME,
    Rejected,
    ShardInfo,
    ShardManifest,
    open_shards,
    read_shard_footer,
    rejected_csv,
    write_shard,
)
from pipeline.distributed.batch_job import (
    LIST_NAME,
    WorkUnit,
    dataset_of_units,
    iter_single_stage,
    make_work_units,
    read_unit_clips,
    unit_to_row,
)
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine, clear_quarantine
from pipeline.distributed.resources import AutoscalingConfig, ResourceRequest, wait_for_resources
from pipeline.distributed.worker import CLIP_TIMEOUT_S, disable_malloc_trim
from pipeline.io.console import Progress
from pipeline.io.errors import UserError, explain_os_error, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.storage import PathOrURI

# A part of the set, but no fewer than is worth a task nor more than a worker should hold (256 clips: 14 MiB a copy).
TARGET_UNIT_COUNT = 64
MIN_UNIT, MAX_UNIT = 8, 256


class ExtractConfig(ManifestConfig, AugmentConfig, AutoscalingConfig):
    """From a folder of sounds to shards of spectrograms."""

    data: PathOrURI
    """Folder with one sub-folder a class (or `train/<class>/`), or a CSV with the columns path,label[,fold][,group]."""
    out: PathOrURI
    """Folder for the shards."""
    features: FeatureConfig = FeatureConfig()
    """The spectrograms."""
    max_rejected: float = Field(0.05, ge=0, le=1)
    """Part of the files that may be unusable before the job counts as failed."""
    overwrite: bool = False
    """Replace a set that was made with other settings."""

    @property
    def augment(self) -> AugmentConfig:
        """What copies are made."""
        return self.subset(AugmentConfig)


Runner = Callable[[list[WorkUnit], ExtractConfig], Iterator[tuple[ShardInfo, list[Rejected]]]]


def extract(config: ExtractConfig, run: Runner | None = None) -> ShardManifest:
    """Makes what is missing of the set, and publishes it; `run` makes the parts, by default on the cluster.

    Raises:
        UserError: unusable data or settings, too many rejected files, a full disk, shards of another configuration.
    """
    manifest = read_manifest(config.data, config.subset(ManifestConfig))
    for warning in manifest.warnings:
        print(f"warning: {warning}", flush=True)
    shared = int(manifest.clips["group"].duplicated(keep=False).sum())
    if shared:
        print(
            f"{shared} of {len(manifest.clips)} clips share a recording with another: splits keep them together",
            flush=True,
        )
    _check_same_settings(config)
    with report_os_errors("creating", config.out):
        config.out.mkdir(parents=True, exist_ok=True)
    units = plan_units(manifest.clips, config)
    counts = {
        str(label): int(count) for label, count in manifest.clips["label"].value_counts().sort_index().items()
    }
    del manifest  # of millions of clips, which lie in the units' list now
    total = sum(counts.values())
    finished = {path.name for path in config.out.glob("part-*.parquet")} & {unit.name for unit in units}
    results = [read_shard_footer(config.out / name) for name in sorted(finished)]
    pending = [unit for unit in units if unit.name not in finished]
    if pending:
        progress = Progress("extracting", total, "clips", done=sum(p.clips + p.rejected for p, _ in results))
        for part, rejected in (run or run_units)(pending, config):
            results.append((part, rejected))
            progress.add(part.clips + part.rejected, _rejected_note(results))
        progress.finish(_rejected_note(results))
    published = _finalize_output(config, counts, results, units)
    print(
        f"{published.clips} clips, {published.rows} rows, {published.rejected} rejected\nshards: {config.out}",
        flush=True,
    )
    return published


def plan_units(clips: pd.DataFrame, config: ExtractConfig) -> list[WorkUnit]:
    """Cuts the manifest into units: as many as keep a cluster busy, none too small for a task or too large for a worker."""
    size = min(MAX_UNIT, max(MIN_UNIT, -(-len(clips) // TARGET_UNIT_COUNT)))
    return make_work_units(clips, size, [config.features.fingerprint, config.augment.to_dict()], config.out)


def run_units(units: list[WorkUnit], config: ExtractConfig) -> Iterator[tuple[ShardInfo, list[Rejected]]]:
    """Lets Ray Data make the parts; yields each as it is published.

    Raises:
        UserError: no machine that takes work, or a part that can't be written.
    """
    # One is enough to begin; Ray Data asks for more by the tasks that wait.
    wait_for_resources(ResourceRequest(1, 1), config.wait_for_nodes, "start a machine with CPUs")
    parts = dataset_of_units(units).map(
        write_unit, fn_args=(config.out, config.features, config.augment, CLIP_TIMEOUT_S)
    )
    yield from map(unpack, iter_single_stage(parts))


def run_in_process(
    units: list[WorkUnit], config: ExtractConfig
) -> Iterator[tuple[ShardInfo, list[Rejected]]]:
    """Makes the parts in this process, one after the other: for small sets and for comparison."""
    for unit in units:
        yield unpack(write_unit(unit_to_row(unit), config.out, config.features, config.augment))


def unpack(row: dict[str, Any]) -> tuple[ShardInfo, list[Rejected]]:
    """What a worker says of the part it made.

    Raises:
        UserError: when it could not be written.
    """
    if row["fault"]:
        raise UserError(row["fault"])
    return ShardInfo.parse(json.loads(row["part"])), [Rejected(*item) for item in json.loads(row["rejected"])]


def write_unit(
    row: dict[str, Any], out: Path, features: FeatureConfig, augment: AugmentConfig, patience: float = 0.0
) -> dict[str, str]:
    """Runs on a worker: one unit to one published part; a process that is at one clip for `patience` seconds ends itself."""
    disable_malloc_trim()
    try:
        with CrashQuarantine(out, row["name"], patience) as attempts:
            clips, spectrograms, rejected = extract_clips(
                read_unit_clips(row), features, augment, attempts.begin
            )
        part = write_shard(out / row["name"], clips, spectrograms, rejected, features.shape)
        attempts.end()
    except OSError as error:
        # As a value, not an exception: Ray would try again for minutes what can't succeed.
        return {"part": "", "rejected": "", "fault": explain_os_error(error, f"writing {out / row['name']}")}
    return {"part": json.dumps(part.to_dict()), "rejected": json.dumps(rejected), "fault": ""}


def extract_clips(
    records: list[dict[str, Any]],
    features: FeatureConfig,
    augment: AugmentConfig,
    begin: Callable[[str], bool] = lambda _: True,
) -> tuple[list[dict[str, Any]], list[list[Spectrogram]], list[Rejected]]:
    """The usable clips of a unit, their spectrograms, and the clips that gave none; `begin` says of each whether it may be read."""
    clips, spectrograms, rejected = [], [], []
    for clip in records:
        if not begin(clip["clip_id"]):
            rejected.append(Rejected(clip["clip_id"], clip["path"], CRASH_REASON))
            continue
        try:
            rows = list(spectrogram_rows(clip["path"], clip["clip_id"], features, augment))
        except AudioDecodeError as error:
            rejected.append(Rejected(clip["clip_id"], clip["path"], str(error)))
            continue
        clips.append(clip)
        spectrograms.append(rows)
    return clips, spectrograms, rejected


def _finalize_output(
    config: ExtractConfig,
    counts: dict[str, int],
    results: list[tuple[ShardInfo, list[Rejected]]],
    units: list[WorkUnit],
) -> ShardManifest:
    """Checks the count (`counts` has the clips of each class), writes `rejected.csv` and the manifest, and clears away what an older set left."""
    parts = sorted((part for part, _ in results), key=lambda part: part.name)
    rejected = sorted(item for _, items in results for item in items)
    usable = sum(part.clips for part in parts)
    total = sum(counts.values())
    if len(parts) != len(units) or usable + len(rejected) != total:
        raise RuntimeError(
            f"{usable} + {len(rejected)} clips in {len(parts)} parts, expected {total} in {len(units)}"
        )
    with report_os_errors("writing", config.out / REJECTED_NAME):
        write_text_atomically(config.out / REJECTED_NAME, rejected_csv(rejected))
    _check_reject_rate(config, rejected, total)
    usable_labels = _usable_labels(counts, rejected, units)
    lost = set(counts) - usable_labels
    if lost:
        print(
            f"warning: no usable clip of class {', '.join(map(repr, sorted(lost)))}: see {config.out / REJECTED_NAME}",
            flush=True,
        )
    published = ShardManifest(
        fingerprint=config.features.fingerprint,
        features=config.features,
        augment=config.augment,
        class_names=tuple(sorted(usable_labels)),
        clips=usable,
        rows=sum(part.rows for part in parts),
        rejected=len(rejected),
        source={"data": str(config.data), "clips_by_class": counts},
        parts=tuple(parts),
    )
    with report_os_errors("writing", config.out / MANIFEST_NAME):
        write_text_atomically(
            config.out / MANIFEST_NAME, json.dumps(published.to_dict(), indent=1, ensure_ascii=False)
        )
    clear_quarantine(config.out)
    (config.out / LIST_NAME).unlink(missing_ok=True)
    keep = {part.name for part in parts}
    for path in [*config.out.glob("part-*.parquet"), *config.out.glob(".part-*.tmp")]:
        if path.name not in keep:
            path.unlink(missing_ok=True)
    return published


def _check_same_settings(config: ExtractConfig) -> None:
    if config.overwrite or not (config.out / MANIFEST_NAME).is_file():
        return
    there = open_shards(config.out)
    for name, mine, theirs in (
        ("features", config.features, there.features),
        ("augment", config.augment, there.augment),
    ):
        changes = diff_settings(theirs.to_dict(), mine.to_dict(), name)
        if changes:
            raise UserError(
                f"--out {config.out} holds shards made with {changes[0]}; choose another --out, or add --overwrite to replace them"
            )


def _check_reject_rate(config: ExtractConfig, rejected: list[Rejected], total: int) -> None:
    if len(rejected) > config.max_rejected * total:
        first = "; ".join(f"{item.clip_id}: {item.reason}" for item in rejected[:10])
        raise UserError(
            f"{len(rejected)} of {total} files could not be used, more than --max-rejected {config.max_rejected:g} allows "
            f"(all in {config.out / REJECTED_NAME}). First {min(10, len(rejected))}: {first}"
        )


def _usable_labels(counts: dict[str, int], rejected: list[Rejected], units: list[WorkUnit]) -> set[str]:
    """The classes of which at least one clip is left."""
    refused = {item.clip_id for item in rejected}
    lost = Counter(
        clip["label"]
        for unit in units
        if refused
        for clip in read_unit_clips(unit_to_row(unit))
        if clip["clip_id"] in refused
    )
    return {label for label, count in counts.items() if count > lost[label]}


def _rejected_note(results: list[tuple[ShardInfo, list[Rejected]]]) -> str:
    count = sum(part.rejected for part, _ in results)
    return f"{count} rejected" if count else ""

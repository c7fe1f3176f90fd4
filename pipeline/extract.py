"""Extraction: audio files to Parquet shards of log-mel spectrograms, as a batch job on a Ray cluster.

A work unit of clips becomes one shard (`pipeline/distributed/batch_job.py`), which is written atomically and
with the same bytes at every attempt. `_manifest.json` is written last and marks the dataset as complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
from pydantic import Field

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.decode import AudioDecodeError, DecodeConfig
from pipeline.audio.features import FeatureConfig, Spectrogram, spectrogram_rows
from pipeline.data.duplicates import (
    DUPLICATES_NAME,
    Duplicate,
    duplicates_csv,
    find_duplicates,
    log_duplicates,
    read_digests,
)
from pipeline.data.existing_dataset import check_existing, check_outside_data, describe_update
from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.data.shards import (
    MANIFEST_NAME,
    REJECTED_NAME,
    SCHEMA_VERSION,
    WARNINGS_NAME,
    ClipWarning,
    Rejected,
    ShardManifest,
    ShardSummary,
    read_shard_footer,
    rejected_csv,
    warnings_csv,
    write_manifest,
    write_shard,
)
from pipeline.distributed.batch_job import BatchJob, Runner, WorkUnit
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.distributed.worker import CLIP_TIMEOUT_S
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.folder_lock import own_folder
from pipeline.io.storage import PathOrURI
from pipeline.io.text import plural

# Number of shards, unless they become too small to be worth a task, or larger than a worker should hold in
# memory (256 clips: 14 MiB per copy).
TARGET_UNIT_COUNT = 64
MIN_CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT = 8, 256


class ExtractConfig(ManifestConfig, AugmentConfig, DecodeConfig, AutoscalingConfig):
    """Extract spectrograms from a folder of audio files."""

    data: PathOrURI
    """Folder with one sub-folder per class (or `train/<class>/`), or a CSV with the columns
    path,label[,fold][,group]."""
    out: PathOrURI
    """Folder for the shards. Rerun to resume, or to update them after files were added or removed."""
    features: FeatureConfig = FeatureConfig()
    """Spectrogram settings."""
    max_rejected: float = Field(0.05, ge=0, le=1)
    """Fail if more than this fraction of files is unusable."""
    overwrite: bool = False
    """Replace existing shards of other data or made with different settings."""

    @property
    def augment(self) -> AugmentConfig:
        """Settings of the augmented copies."""
        return self.subset(AugmentConfig)


def extract(config: ExtractConfig, runner: Runner | None = None) -> ShardManifest:
    """Write the missing shards and the manifest; `runner` runs the work units, by default on the cluster.

    Raises:
        UserError: unusable data or settings, too many rejected files, too few resources, a full disk, or
            existing shards made with different settings.
    """
    manifest = read_manifest(config.data, config.subset(ManifestConfig))
    _log_warnings(manifest)
    class_counts = {
        str(label): int(count) for label, count in manifest.clips["label"].value_counts().sort_index().items()
    }
    check_outside_data(config.out, config.data, class_counts)
    with own_folder(config.out, "extract") as owner:
        existing = check_existing(config.out, config.data, config.features, config.augment, config.overwrite)
        job = plan_job(manifest.clips, config)
        del manifest  # millions of clips, now in the job's list
        if existing is not None:
            _log_update(existing, job)
        stages = [partial(ShardWriter, config.features, config.augment, CLIP_TIMEOUT_S, config.min_complete)]
        runner = runner or RayRunner(
            config.wait_for_nodes,
            hint="start a node with CPUs",
            memory_hint="lower --cpus, or use nodes with more memory",
        )
        summaries = job.run(stages, runner)
        owner.check()
        published = _publish(config, class_counts, summaries, job)
        job.clean_up(keep_outputs=True)
    if published.warnings:
        path = config.out / WARNINGS_NAME
        logger.warning("%s about clips that are used; see %s", plural(published.warnings, "warning"), path)
    counts = f"{plural(published.clips, 'clip')}, {plural(published.rows, 'row')}"
    print(f"{counts}, {published.rejected} rejected")
    print(f"shards: {config.out}", flush=True)
    return published


def plan_job(clips: pd.DataFrame, config: ExtractConfig) -> BatchJob:
    """Plan an extraction, with enough shards to keep a cluster busy."""
    clips_per_unit = min(MAX_CLIPS_PER_UNIT, max(MIN_CLIPS_PER_UNIT, -(-len(clips) // TARGET_UNIT_COUNT)))
    return BatchJob(
        "extracting",
        clips,
        clips_per_unit,
        settings=[SCHEMA_VERSION, config.features.fingerprint, config.augment.to_dict(), config.min_complete],
        folder=config.out,
        read_summary=read_shard_footer,
        count_rejected=lambda summary: summary.info.rejected,
    )


class ShardWriter:
    """Stage of a batch job that turns a work unit into a shard."""

    def __init__(
        self,
        features: FeatureConfig,
        augment: AugmentConfig,
        clip_timeout_s: float = 0.0,
        min_complete: float = DecodeConfig().min_complete,
    ):
        """Set the time limit of a clip, after which the process exits, in seconds; 0 disables it."""
        self._features, self._augment = features, augment
        self._clip_timeout_s, self._min_complete = clip_timeout_s, min_complete

    def __call__(self, unit: WorkUnit) -> ShardSummary:
        """Write the shard of a unit.

        Raises:
            OSError: the clip list cannot be read or the shard cannot be written.
        """
        with CrashQuarantine(unit.folder, unit.name, self._clip_timeout_s) as quarantine:
            extracted = extract_clips(
                unit.read_clips(), self._features, self._augment, quarantine.begin, self._min_complete
            )
        summary = write_shard(
            unit.path,
            extracted.clips,
            extracted.spectrograms,
            extracted.rejected,
            self._features.shape,
            extracted.warnings,
        )
        quarantine.end()
        return summary


@dataclass
class ExtractedClips:
    """Usable clips of a work unit with their spectrograms, and what its report files list."""

    clips: list[dict[str, Any]] = field(default_factory=list)
    spectrograms: list[list[Spectrogram]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    warnings: list[ClipWarning] = field(default_factory=list)


def extract_clips(
    records: list[dict[str, Any]],
    features: FeatureConfig,
    augment: AugmentConfig,
    begin: Callable[[str], bool] = lambda clip_id: True,
    min_complete: float = DecodeConfig().min_complete,
) -> ExtractedClips:
    """Decode the clips of a unit and extract their spectrograms.

    `begin` is called with the id of each clip and returns whether it may be read.
    """
    result = ExtractedClips()
    for clip in records:
        clip_id, path = clip["clip_id"], clip["path"]
        if not begin(clip_id):
            result.rejected.append(Rejected(clip_id, path, CRASH_REASON))
            continue
        texts: list[str] = []
        try:
            rows = list(spectrogram_rows(path, clip_id, features, augment, min_complete, texts.append))
        except AudioDecodeError as error:
            result.rejected.append(Rejected(clip_id, path, str(error)))
            continue
        result.clips.append(clip)
        result.spectrograms.append(rows)
        result.warnings += [ClipWarning(clip_id, path, text) for text in texts]
    return result


def _publish(
    config: ExtractConfig, class_counts: dict[str, int], summaries: list[ShardSummary], job: BatchJob
) -> ShardManifest:
    """Check the number of clips, then write the lists of conspicuous clips, and the manifest.

    `class_counts` is the number of clips per class, usable or not.
    """
    shards = tuple(summary.info for summary in summaries)
    rejected = sorted(clip for summary in summaries for clip in summary.rejected)
    warnings = sorted(warning for summary in summaries for warning in summary.warnings)
    usable, total = sum(shard.clips for shard in shards), sum(class_counts.values())
    if usable + len(rejected) != total:
        raise RuntimeError(f"{usable} + {len(rejected)} clips in {len(shards)} shards, expected {total}")
    with report_os_errors("writing", config.out / REJECTED_NAME):
        write_text_atomically(config.out / REJECTED_NAME, rejected_csv(rejected))
        write_text_atomically(config.out / WARNINGS_NAME, warnings_csv(warnings))
    duplicates = _find_duplicates(summaries, job.units)
    with report_os_errors("writing", config.out / DUPLICATES_NAME):
        write_text_atomically(config.out / DUPLICATES_NAME, duplicates_csv(duplicates))
    log_duplicates(duplicates, config.out / DUPLICATES_NAME)
    _check_reject_rate(config, rejected, total)
    class_names = _usable_classes(class_counts, rejected, job.units)
    for label in sorted(set(class_counts) - class_names):
        logger.warning("class '%s' has no usable clips; see %s", label, config.out / REJECTED_NAME)
    manifest = ShardManifest(
        fingerprint=config.features.fingerprint,
        features=config.features,
        augment=config.augment,
        class_names=tuple(sorted(class_names)),
        clips=usable,
        rows=sum(shard.rows for shard in shards),
        rejected=len(rejected),
        warnings=len(warnings),
        source={"data": str(config.data), "clips_by_class": class_counts},
        shards=shards,
    )
    with report_os_errors("writing", config.out / MANIFEST_NAME):
        write_manifest(config.out, manifest)
    return manifest


def _find_duplicates(summaries: list[ShardSummary], units: list[WorkUnit]) -> list[Duplicate]:
    def read_usable_clips(index: int) -> list[dict[str, Any]]:
        rejected = {clip.clip_id for clip in summaries[index].rejected}
        return [clip for clip in units[index].read_clips() if clip["clip_id"] not in rejected]

    return find_duplicates([read_digests(summary.digests) for summary in summaries], read_usable_clips)


def _log_update(existing: ShardManifest, job: BatchJob) -> None:
    """Log how a job changes an existing dataset."""
    known = {shard.name for shard in existing.shards}
    names = [unit.name for unit in job.units]
    pending_ids = (
        clip["clip_id"] for unit in job.units if unit.name not in known for clip in unit.read_clips()
    )
    if line := describe_update(job.folder, existing, names, pending_ids):
        logger.info("%s", line)


def _log_warnings(manifest: Manifest) -> None:
    for warning in manifest.warnings:
        logger.warning("%s", warning)
    shared = int(manifest.clips["group"].duplicated(keep=False).sum())
    if shared:
        logger.info(
            "%d of %d clips share a recording; splits are grouped by recording", shared, len(manifest.clips)
        )


def _check_reject_rate(config: ExtractConfig, rejected: list[Rejected], total: int) -> None:
    if len(rejected) > config.max_rejected * total:
        examples = "; ".join(f"{clip.clip_id}: {clip.reason}" for clip in rejected[:10])
        raise UserError(
            f"{len(rejected)} of {total} files are unusable, more than --max-rejected "
            f"{config.max_rejected:g} (all in {config.out / REJECTED_NAME}). "
            f"First {min(10, len(rejected))}: {examples}"
        )


def _usable_classes(
    class_counts: dict[str, int], rejected: list[Rejected], units: list[WorkUnit]
) -> set[str]:
    """Return the classes of which at least one clip is usable."""
    if not rejected:
        return {label for label, count in class_counts.items() if count}
    rejected_ids = {clip.clip_id for clip in rejected}
    rejected_counts = Counter(
        clip["label"] for unit in units for clip in unit.read_clips() if clip["clip_id"] in rejected_ids
    )
    return {label for label, count in class_counts.items() if count > rejected_counts[label]}

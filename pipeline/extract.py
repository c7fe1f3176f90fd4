"""Extraction: audio files to Parquet shards of log-mel spectrograms, as a batch job on a Ray cluster.

A work unit of clips becomes one shard (`pipeline/distributed/batch_job.py`), which is written atomically and
with the same bytes at every attempt. `_manifest.json` is written last and marks the dataset as complete.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
from pydantic import Field

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.clip_files import clip_sources
from pipeline.audio.clip_formats import read_formats
from pipeline.audio.cpu_time import clip_seconds
from pipeline.audio.decode import AudioDecodeError, DecodeConfig
from pipeline.audio.feature_defaults import complete_settings, describe_choice, resolve_features
from pipeline.audio.feature_settings import FeatureSettings
from pipeline.audio.features import ClipSource, FeatureConfig, Spectrogram, spectrogram_rows
from pipeline.data.existing_dataset import (
    check_outside_data,
    check_same_dataset,
    describe_update,
    open_existing,
)
from pipeline.data.footer_file import FooterFile
from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.data.publication import Publication
from pipeline.data.shard_manifest import SCHEMA_VERSION, ShardManifest
from pipeline.data.shards import (
    WARNINGS_NAME,
    ClipWarning,
    Rejected,
    ShardSummary,
    read_shard_footer,
    write_shard,
)
from pipeline.distributed.batch_job import BatchJob, Runner, WorkUnit
from pipeline.distributed.process_runner import SizedRunner
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.distributed.unit_size import unit_size
from pipeline.distributed.worker import CLIP_TIMEOUT_S
from pipeline.io.console import logger
from pipeline.io.errors import report_os_errors
from pipeline.io.folder_lock import own_folder
from pipeline.io.storage import PathOrURI
from pipeline.io.text import plural

# Clips of a shard: at least for short clips, and at most, as all are in memory (256 clips: 14 MiB per copy).
MIN_CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT = 8, 256


class ExtractConfig(ManifestConfig, AugmentConfig, DecodeConfig, AutoscalingConfig):
    """Extract spectrograms from a folder of audio files."""

    data: PathOrURI
    """Folder with one sub-folder per class (or `train/<class>/`), or a CSV with the columns
    path,label[,fold][,group]."""
    out: PathOrURI
    """Folder for the shards. Rerun to resume, or to update them after files were added or removed."""
    features: FeatureSettings = FeatureSettings()
    """Spectrogram settings; those that are left out are chosen from the clips."""
    max_rejected: float = Field(0.05, ge=0, le=1)
    """Fail if more than this fraction of files is unusable."""
    overwrite: bool = False
    """Replace existing shards of other data or made with different settings."""

    @property
    def augment(self) -> AugmentConfig:
        """Settings of the augmented copies."""
        return self.subset(AugmentConfig)


def extract(config: ExtractConfig, runner: Runner | None = None) -> ShardManifest:
    """Write the missing shards and the manifest; `runner` runs the work units, by default as their work says.

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
        existing = open_existing(config.out, config.overwrite)
        features = choose_features(config, manifest.clips, existing)
        if existing is not None:
            check_same_dataset(existing, config.out, config.data, features, config.augment)
        footers = FooterFile(config.out)
        job = plan_job(manifest.clips, config, features, footers)
        if existing is not None:
            _log_update(existing, job, manifest.clips["clip_id"])
        seconds = clip_seconds(manifest.clips, features, copies=config.copies)
        del manifest  # millions of clips, now in the job's list
        stages = [partial(ShardWriter, features, config.augment, CLIP_TIMEOUT_S, config.min_complete)]
        runner = runner or SizedRunner(seconds, _ray_runner(config))
        summaries = job.run(stages, runner)
        owner.check()
        with report_os_errors("writing to", config.out):
            footers.update(summaries, job.output_sizes)
        published = Publication(
            config.out,
            config.data,
            features,
            config.augment,
            class_counts,
            summaries,
            lambda index: job.units[index].read_clips(),
            existing,
        ).publish(config.max_rejected)
        job.clean_up(keep_outputs=True)
    if published.warnings:
        path = config.out / WARNINGS_NAME
        logger.warning("%s about clips that are used; see %s", plural(published.warnings, "warning"), path)
    counts = f"{plural(published.clips, 'clip')}, {plural(published.rows, 'row')}"
    print(f"{counts}, {published.rejected} rejected")
    print(f"shards: {config.out}", flush=True)
    return published


def _ray_runner(config: ExtractConfig) -> RayRunner:
    return RayRunner(
        config.wait_for_nodes,
        hint="start a node with CPUs",
        memory_hint="lower --cpus, or use nodes with more memory",
    )


def choose_features(
    config: ExtractConfig, clips: pd.DataFrame, existing: ShardManifest | None
) -> FeatureConfig:
    """Return all spectrogram settings: those that are left out are chosen from the clips.

    An update of an existing dataset, also after clips were added, uses those of the dataset.
    """
    if existing is not None:
        return complete_settings(config.features, existing.features)
    features = resolve_features(config.features, lambda: read_formats(clips))
    if choice := describe_choice(config.features, features):
        logger.info("spectrograms: %s, chosen from the clips; set them by --features.*", choice)
    return features


def plan_job(
    clips: pd.DataFrame, config: ExtractConfig, features: FeatureConfig, footers: FooterFile | None = None
) -> BatchJob:
    """Plan an extraction, with enough shards to keep a cluster busy."""
    return BatchJob(
        "extracting",
        clips,
        unit_size(clips, MIN_CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT),
        settings=[SCHEMA_VERSION, features.fingerprint, config.augment.to_dict(), config.min_complete],
        folder=config.out,
        read_summary=read_shard_footer,
        known_outputs=footers.read if footers else dict,
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
            UserError: the object store of a clip cannot be reached.
            OSError: the clip list cannot be read or the shard cannot be written.
        """
        with CrashQuarantine(unit.folder, unit.name, self._clip_timeout_s) as quarantine:
            clips = unit.read_clips()
            with closing(clip_sources(clips, ahead=not quarantine.after_crash)) as sources:
                extracted = extract_clips(
                    clips, sources, self._features, self._augment, quarantine.begin, self._min_complete
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
    clips: Sequence[dict[str, Any]],
    sources: Iterable[ClipSource],
    features: FeatureConfig,
    augment: AugmentConfig,
    begin: Callable[[str], bool] = lambda clip_id: True,
    min_complete: float = DecodeConfig().min_complete,
) -> ExtractedClips:
    """Decode the clips of a unit, given with their sources, and extract their spectrograms.

    `begin` is called with the id of each clip and returns whether it may be read.
    """
    result = ExtractedClips()
    for clip, source in zip(clips, sources, strict=True):
        clip_id, path = clip["clip_id"], clip["path"]
        if not begin(clip_id):
            result.rejected.append(Rejected(clip_id, path, CRASH_REASON))
            continue
        texts: list[str] = []
        try:
            rows = list(spectrogram_rows(source, clip_id, features, augment, min_complete, texts.append))
        except AudioDecodeError as error:
            result.rejected.append(Rejected(clip_id, path, str(error)))
            continue
        result.clips.append(clip)
        result.spectrograms.append(rows)
        result.warnings += [ClipWarning(clip_id, path, text) for text in texts]
    return result


def _log_update(existing: ShardManifest, job: BatchJob, clip_ids: pd.Series) -> None:
    """Log how a job changes an existing dataset; `clip_ids` are those of all its clips."""
    known = {shard.name for shard in existing.shards}
    ends = itertools.accumulate(unit.clips for unit in job.units)
    pending_ids = (
        clip_id
        for unit, end in zip(job.units, ends, strict=True)
        if unit.name not in known
        for clip_id in clip_ids.iloc[end - unit.clips : end]
    )
    if line := describe_update(job.folder, existing, [unit.name for unit in job.units], pending_ids):
        logger.info("%s", line)


def _log_warnings(manifest: Manifest) -> None:
    for warning in manifest.warnings:
        logger.warning("%s", warning)
    shared = int(manifest.clips["group"].duplicated(keep=False).sum())
    if shared:
        logger.info(
            "%d of %d clips share a recording; splits are grouped by recording", shared, len(manifest.clips)
        )

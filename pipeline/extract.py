"""Extraction: audio files to Parquet shards of log-mel spectrograms, as a batch job on a Ray cluster.

A work unit of clips becomes one shard (`pipeline/distributed/batch_job.py`), which is written atomically and
with the same bytes at every attempt. `_manifest.json` is written last and marks the dataset as complete.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

import pandas as pd
from pydantic import Field, model_validator

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.clip_files import ClipsAhead, FetchedFile, clip_sources
from pipeline.audio.cpu_time import clip_seconds
from pipeline.audio.decode import DecodeConfig
from pipeline.audio.feature_settings import FeatureSettings
from pipeline.audio.features import FeatureConfig
from pipeline.audio.open_recording import KeptRecording
from pipeline.data.existing_dataset import (
    check_same_dataset,
    describe_update,
    open_existing,
)
from pipeline.data.extraction import ClipExtractor, ExtractedClips
from pipeline.data.feature_choice import choose_features
from pipeline.data.footer_file import FooterFile
from pipeline.data.manifest import Manifest, ManifestConfig, cut_windows, read_manifest
from pipeline.data.output_location import check_outside_data, check_without_recordings
from pipeline.data.publication import Publication
from pipeline.data.recording_headers import map_batches_here
from pipeline.data.shard_manifest import SCHEMA_VERSION, ShardManifest
from pipeline.data.shards import WARNINGS_NAME, ShardSummary, read_shard_footer, write_shard
from pipeline.data.windows import window_sizes
from pipeline.distributed.batch_job import BatchJob, Runner
from pipeline.distributed.ordered_map import OrderedMap
from pipeline.distributed.process_runner import SizedRunner
from pipeline.distributed.quarantine import CRASH_REASON, CrashQuarantine
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.distributed.unit_size import unit_size
from pipeline.distributed.work_unit import WorkUnit
from pipeline.distributed.worker import CLIP_TIMEOUT_S, heartbeat
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
    path,label[,start,end][,fold][,group], or a text file with one path in such a folder per line, or Parquet
    files with the audio inside, or with `--annotations` a folder of recordings."""
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

    @property
    def label_settings(self) -> dict[str, Any]:
        """Settings of which clips there are and what is known about them, as far as no path and no other
        part of the dataset's manifest states them."""
        stated = ("annotations", "multi_label", "window", "hop")
        settings = self.subset(ManifestConfig).to_dict() | {
            "class_names": None if self.class_names is None else self.class_names.name,
            "min_complete": self.min_complete,
        }
        return {name: value for name, value in settings.items() if name not in stated}

    @property
    def window_hop(self) -> float | None:
        """Distance between windows in seconds; None if clips are whole files."""
        return self.hop or self.window

    def dataset_settings(self, features: FeatureConfig, multi_label: bool) -> dict[str, Any]:
        """Return all settings that define a dataset, with those that were chosen from the clips."""
        return {
            "features": features.to_dict(),
            "augment": self.augment.to_dict(),
            "multi_label": multi_label,
            "hop": self.window_hop,
            **self.label_settings,
        }

    @property
    def clip_features(self) -> FeatureSettings:
        """Spectrogram settings; windows are not trimmed, so that the times of events stay true."""
        if self.window is None:
            return self.features
        return self.features.model_copy(update={"seconds": self.window, "trim_db": None})

    @model_validator(mode="after")
    def _check_window(self) -> ExtractConfig:
        if self.window is not None and self.features.seconds not in (None, self.window):
            raise ValueError(
                f"--features.seconds {self.features.seconds:g} and --window {self.window:g} differ: "
                "leave out the former"
            )
        return self


def extract(config: ExtractConfig, runner: Runner | None = None) -> ShardManifest:
    """Write the missing shards and the manifest; `runner` runs the work units, by default as their work says.

    Raises:
        UserError: unusable data or settings, too many rejected files, too few resources, a full disk, or
            existing shards made with different settings.
    """
    manifest = read_manifest(config.data, config.subset(ManifestConfig))
    if config.window is not None:
        map_batches = OrderedMap(map_batches_here, "read lengths", config.wait_for_nodes)
        manifest = cut_windows(manifest, config, config.seed, map_batches)
    _log_warnings(manifest)
    class_counts, num_clips = manifest.class_counts, len(manifest.clips)
    multi_label, hop = manifest.multi_label, config.window_hop
    check_outside_data(config.out, config.data, manifest.stated_classes)
    check_without_recordings(config.out, [config.data], manifest.clips["path"])
    with own_folder(config.out, "extract") as owner:
        existing = open_existing(config.out, config.overwrite)
        features = choose_features(config.clip_features, manifest, existing)
        if existing is not None:
            requested = config.dataset_settings(features, multi_label)
            check_same_dataset(existing, config.out, config.data, requested)
        footers = FooterFile(config.out)
        job = plan_job(manifest.clips, config, features, footers)
        if existing is not None:
            _log_update(existing, job, manifest.clips["clip_id"])
        seconds = clip_seconds(clip_costs(manifest.clips), features, copies=config.copies)
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
            num_clips,
            class_counts,
            summaries,
            lambda index: job.units[index].read_clips(),
            multi_label,
            hop,
            config.label_settings,
            existing,
        ).publish(config.max_rejected)
        job.clean_up(keep_outputs=True)
    if published.warnings:
        path = config.out / WARNINGS_NAME
        logger.warning("%s about clips that are used; see %s", plural(published.warnings, "warning"), path)
    noun = "clip" if hop is None else "window"
    counts = f"{plural(published.clips, noun)}, {plural(published.rows, 'row')}"
    print(f"{counts}, {published.rejected} rejected")
    print(f"shards: {config.out}", flush=True)
    return published


def _ray_runner(config: ExtractConfig) -> RayRunner:
    return RayRunner(
        config.wait_for_nodes,
        hint="start a node with CPUs",
        memory_hint="lower --cpus, or use nodes with more memory",
    )


def clip_costs(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the table by whose column `size` the cost of a clip is estimated: bytes that it is read from."""
    return window_sizes(clips) if "start" in clips else clips


def plan_job(
    clips: pd.DataFrame, config: ExtractConfig, features: FeatureConfig, footers: FooterFile | None = None
) -> BatchJob:
    """Plan an extraction, with enough shards to keep a cluster busy."""
    return BatchJob(
        "extracting",
        clips,
        unit_size(clip_costs(clips), MIN_CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT),
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
        self._extractor = ClipExtractor(features, augment, min_complete, KeptRecording(heartbeat))
        self._clip_timeout_s = clip_timeout_s
        self._ahead = ClipsAhead()

    def prefetch(self, unit: WorkUnit) -> None:
        """Read the first files of a unit that follows; called by another thread.

        Raises:
            OSError: the clip list cannot be read.
        """
        self._ahead.add(unit)

    def __call__(self, unit: WorkUnit) -> ShardSummary:
        """Write the shard of a unit.

        Raises:
            UserError: the object store of a clip cannot be reached.
            OSError: the clip list cannot be read or the shard cannot be written.
        """
        with CrashQuarantine(unit.folder, unit.name, self._clip_timeout_s) as quarantine:
            clips, files = self._ahead.take(unit)
            is_windowed = "start" in clips[0]
            extracted = self._extract(clips, files, is_windowed, quarantine)
        summary = write_shard(
            unit.path,
            extracted.clips,
            extracted.spectrograms,
            extracted.rejected,
            self._extractor.features.shape,
            extracted.warnings,
            is_windowed,
        )
        quarantine.end()
        return summary

    def _extract(
        self,
        clips: list[dict[str, Any]],
        files: Sequence[str | FetchedFile],
        is_windowed: bool,
        quarantine: CrashQuarantine,
    ) -> ExtractedClips:
        """Extract the clips of a unit; after a crash one at a time, each after it is recorded.

        Of the first clips, `files` have been read already.
        """
        is_alone = quarantine.after_crash
        if is_windowed:
            return self._extractor.extract_windows(clips, quarantine.begin, CRASH_REASON, not is_alone)
        with closing(clip_sources(clips, not is_alone, files)) as sources:
            return self._extractor.extract_clips(clips, sources, quarantine.begin, CRASH_REASON)


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
    if manifest.summary:
        logger.info("%s", manifest.summary)
        return
    shared = int(manifest.clips["group"].duplicated(keep=False).sum())
    if shared:
        logger.info(
            "%d of %d clips share a recording; splits are grouped by recording", shared, len(manifest.clips)
        )

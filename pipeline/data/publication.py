"""Publication of an extracted dataset: the lists of conspicuous clips, and last the manifest.

Files that would not change are not written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.features import FeatureConfig
from pipeline.data.duplicates import (
    DUPLICATES_NAME,
    Duplicate,
    duplicates_csv,
    find_duplicates,
    log_duplicates,
    read_digests,
)
from pipeline.data.labels import count_classes
from pipeline.data.shard_manifest import MANIFEST_NAME, ShardManifest, write_manifest
from pipeline.data.shards import (
    REJECTED_NAME,
    WARNINGS_NAME,
    ClipWarning,
    Rejected,
    ShardSummary,
    rejected_csv,
    warnings_csv,
)
from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.text import first_messages


@dataclass(frozen=True)
class Publication:
    """What is known of an extraction once all shards are written."""

    out: Path
    data: Path
    features: FeatureConfig
    augment: AugmentConfig
    num_clips: int
    """Number of clips, usable or not."""
    class_counts: dict[str, int]
    """Number of clips per class, usable or not."""
    summaries: Sequence[ShardSummary]
    """Summary of each shard, in the order of its clips."""
    read_clips: Callable[[int], list[dict[str, Any]]]
    """Returns the manifest rows of a shard's clips, by its index; called from several threads."""
    multi_label: bool = False
    """Whether a clip has any number of classes."""
    hop: float | None = None
    """Distance in seconds between the windows that the clips are; None if they are whole files."""
    label_settings: dict[str, Any] = field(default_factory=dict)
    """Settings of which clips there are and what is known about them."""
    existing: ShardManifest | None = None
    """Manifest that is replaced."""

    def publish(self, max_rejected: float) -> ShardManifest:
        """Check the number of clips; write the lists of conspicuous clips, then the manifest.

        Raises:
            UserError: more than the fraction `max_rejected` of the files is unusable, or a file cannot be
                written.
        """
        self._check_count()
        duplicates = self._find_duplicates()
        lists = {
            REJECTED_NAME: rejected_csv(self._rejected),
            WARNINGS_NAME: warnings_csv(self._warnings),
            DUPLICATES_NAME: duplicates_csv(duplicates),
        }
        for _ in map_concurrently(lambda file: self._write(*file), lists.items()):
            pass
        log_duplicates(duplicates, self.out / DUPLICATES_NAME)
        self._check_reject_rate(max_rejected)
        manifest = self._manifest(self._usable_classes())
        if manifest != self.existing:
            with report_os_errors("writing", self.out / MANIFEST_NAME):
                write_manifest(self.out, manifest)
        return manifest

    @cached_property
    def _rejected(self) -> list[Rejected]:
        return sorted(clip for summary in self.summaries for clip in summary.rejected)

    @cached_property
    def _warnings(self) -> list[ClipWarning]:
        return sorted(warning for summary in self.summaries for warning in summary.warnings)

    def _check_count(self) -> None:
        usable = sum(summary.info.clips for summary in self.summaries)
        if usable + len(self._rejected) != self.num_clips:
            count = len(self.summaries)
            raise RuntimeError(
                f"{usable} + {len(self._rejected)} clips in {count} shards, expected {self.num_clips}"
            )

    def _find_duplicates(self) -> list[Duplicate]:
        def read_usable_clips(index: int) -> list[dict[str, Any]]:
            rejected = {clip.clip_id for clip in self.summaries[index].rejected}
            return [clip for clip in self.read_clips(index) if clip["clip_id"] not in rejected]

        digests = [read_digests(summary.digests) for summary in self.summaries]
        with report_os_errors("reading the list of clips in", self.out):
            return find_duplicates(digests, read_usable_clips)

    def _write(self, name: str, text: str) -> None:
        path = self.out / name
        with report_os_errors("writing", path):
            try:
                if path.read_bytes() == text.encode():
                    return
            except FileNotFoundError:
                pass
            write_text_atomically(path, text)

    def _check_reject_rate(self, max_rejected: float) -> None:
        rejected = self._rejected
        if len(rejected) > max_rejected * self.num_clips:
            clips = "files" if self.hop is None else "windows"
            examples = "; ".join(f"{clip.clip_id}: {clip.reason}" for clip in rejected[:10])
            raise UserError(
                f"{len(rejected)} of {self.num_clips} {clips} are unusable, more than --max-rejected "
                f"{max_rejected:g} (all in {self.out / REJECTED_NAME}). "
                f"First {min(10, len(rejected))}: {examples}"
            )

    def _usable_classes(self) -> set[str]:
        """Return the classes of which at least one clip is usable; log the others."""
        # Only small classes can have lost all of their clips.
        doubtful = {label for label, count in self.class_counts.items() if count <= len(self._rejected)}
        rejected_counts = self._rejected_counts() if doubtful else Counter()
        usable = {label for label, count in self.class_counts.items() if count > rejected_counts[label]}
        missing = sorted(set(self.class_counts) - usable)
        path = self.out / REJECTED_NAME
        for text in first_messages([f"class '{label}' has no usable clips; see {path}" for label in missing]):
            logger.warning("%s", text)
        return usable

    def _rejected_counts(self) -> Counter[str]:
        """Return the number of rejected clips per class."""
        shards = [index for index, summary in enumerate(self.summaries) if summary.rejected]
        rejected_ids = {clip.clip_id for clip in self._rejected}
        with report_os_errors("reading the list of clips in", self.out):
            labels = Counter(
                clip["label"]
                for clips in map_concurrently(self.read_clips, shards)
                for clip in clips
                if clip["clip_id"] in rejected_ids
            )
        return Counter(count_classes(labels, self.multi_label))

    def _manifest(self, class_names: set[str]) -> ShardManifest:
        shards = tuple(summary.info for summary in self.summaries)
        return ShardManifest(
            fingerprint=self.features.fingerprint,
            features=self.features,
            augment=self.augment,
            class_names=tuple(sorted(class_names)),
            clips=sum(shard.clips for shard in shards),
            rows=sum(shard.rows for shard in shards),
            rejected=len(self._rejected),
            warnings=len(self._warnings),
            source={
                "data": str(self.data),
                "clips_by_class": self.class_counts,
                "settings": self.label_settings,
            },
            shards=shards,
            multi_label=self.multi_label,
            hop=self.hop,
        )

"""Clips with the same audio, found by digests of their spectrograms, which the shards store.

Clips with the same digest form a set. Their groups are merged for splits, so that they are never on both
sides of one. In shapes: N number of clips, R number of rows, which include augmented copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import logger
from pipeline.io.files import csv_text
from pipeline.io.text import plural

DUPLICATES_NAME = "duplicates.csv"
DIGEST_BYTES = 8
# Digest of a constant spectrogram: clips of digital silence are not duplicates.
SILENCE = 0


class Duplicate(NamedTuple):
    """Clip whose audio is also that of another clip; clips of equal `set` have the same audio."""

    set: int
    clip_id: str
    label: str
    path: str
    fold: int
    group: str


def content_digest(mel: np.ndarray) -> bytes:
    """Return the digest of a spectrogram, float16 `[shape=(n_mels, num_frames)]`, of `DIGEST_BYTES` bytes."""
    bits = np.ascontiguousarray(mel).view(np.uint16).ravel()
    if (bits == bits[0]).all():
        return bytes(DIGEST_BYTES)
    return hashlib.blake2b(bits.data, digest_size=DIGEST_BYTES).digest()


def read_digests(data: bytes) -> np.ndarray:
    """Return concatenated digests as integers, uint64 `[shape=(N,)]`."""
    return np.frombuffer(data, "<u8").astype(np.uint64)


def duplicate_sets(digests: np.ndarray) -> np.ndarray:
    """Number the sets of clips with the same digest, from 1 in order of their first clip.

    Args:
        digests: digest of each clip, uint64 `[shape=(N,)]`.

    Returns:
        Set of each clip, int64 `[shape=(N,)]`; 0 if no other clip has its digest, or if it is silent.
    """
    values, first, inverse, counts = np.unique(
        digests, return_index=True, return_inverse=True, return_counts=True
    )
    repeated = np.flatnonzero((counts > 1) & (values != SILENCE))
    numbers = np.zeros(len(values), np.int64)
    numbers[repeated[np.argsort(first[repeated])]] = np.arange(1, len(repeated) + 1)
    return numbers[inverse]


def merge_groups(groups: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Merge groups that have clips of the same set, directly or through other groups.

    Args:
        groups: group of each clip, text `[shape=(N,)]`.
        sets: set of each clip `[shape=(N,)]`, as `duplicate_sets` returns it.

    Returns:
        Group of each clip `[shape=(N,)]`: the first name of those merged, in alphabetical order.
    """
    is_duplicate = sets > 0
    if not is_duplicate.any():
        return groups
    from scipy.sparse import coo_array  # slow to import, rarely needed
    from scipy.sparse.csgraph import connected_components

    codes, names = pd.factorize(groups, sort=True)
    # Graph of groups and, after them, sets; an edge for each clip of a set.
    edges = codes[is_duplicate], len(names) + sets[is_duplicate] - 1
    size = len(names) + int(sets.max())
    graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(size, size))
    component = connected_components(graph, directed=False)[1][: len(names)]
    first = np.unique(component, return_index=True)
    return np.asarray(names)[first[1][np.searchsorted(first[0], component[codes])]]


def duplicates_of(content: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mask of rows whose clips are duplicates of others, bool `[shape=(R,)]`.

    Args:
        content: digest of the clip of each row, uint64 `[shape=(R,)]`.
        rows: mask of the others `[shape=(R,)]`, which are not in the result.
    """
    return ~rows & (content != SILENCE) & np.isin(content, content[rows])


def conflicting_sets(duplicates: Sequence[Duplicate]) -> list[tuple[Duplicate, Duplicate]]:
    """Return, for each set whose clips have different labels, two clips with different labels."""
    first: dict[int, Duplicate] = {}
    conflicts: dict[int, tuple[Duplicate, Duplicate]] = {}
    for clip in duplicates:
        other = first.setdefault(clip.set, clip)
        if clip.label != other.label:
            conflicts.setdefault(clip.set, (other, clip))
    return list(conflicts.values())


def find_duplicates(
    digests: Sequence[np.ndarray], read_clips: Callable[[int], Sequence[dict[str, Any]]]
) -> list[Duplicate]:
    """Return the clips whose audio is also that of another clip, sorted by set.

    Args:
        digests: for each shard the digests of its clips, uint64.
        read_clips: returns the manifest rows of a shard's clips, by the index of the shard; called only for
            shards that contain duplicates, from several threads.
    """
    sets = duplicate_sets(np.concatenate([np.zeros(0, np.uint64), *digests]))
    ends = np.cumsum([len(values) for values in digests], dtype=np.int64)
    by_shard = np.split(sets, ends[:-1])
    shards = [shard for shard, numbers in enumerate(by_shard) if numbers.any()]
    duplicates = [
        Duplicate(int(number), *(clip[name] for name in Duplicate._fields[1:]))
        for shard, clips in zip(shards, map_concurrently(read_clips, shards), strict=True)
        for number, clip in zip(by_shard[shard], clips, strict=True)
        if number
    ]
    return sorted(duplicates, key=lambda clip: clip.set)


def log_duplicates(duplicates: Sequence[Duplicate], path: Path) -> None:
    """Log the number of duplicates, and an example of conflicting labels; `path` is the file with all."""
    if not duplicates:
        return
    logger.warning(
        "%d clips have the same audio as others (%s of equal clips); splits keep them together; see %s",
        len(duplicates),
        plural(duplicates[-1].set, "set"),
        path,
    )
    if conflicts := conflicting_sets(duplicates):
        first, second = conflicts[0]
        logger.warning(
            "different labels in %s of equal clips, such as '%s' (%s) and '%s' (%s): correct or remove them; "
            "see %s",
            plural(len(conflicts), "set"),
            first.clip_id,
            first.label,
            second.clip_id,
            second.label,
            path,
        )


def duplicates_csv(duplicates: Sequence[Duplicate]) -> str:
    """Return the text of `duplicates.csv`."""
    return csv_text(Duplicate._fields, duplicates)

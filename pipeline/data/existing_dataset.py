"""The dataset that an output folder already contains: whether an extraction may update or replace it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from models.config import diff_settings
from pipeline.data.output_location import location_of
from pipeline.data.shard_manifest import MANIFEST_NAME, ShardManifest, open_shards
from pipeline.data.shards import read_shard, read_shard_footer
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError
from pipeline.io.output_folder import check_output_folder
from pipeline.io.text import plural

_OVERWRITE = ", or add --overwrite to replace it"


def open_existing(out: Path, overwrite: bool) -> ShardManifest | None:
    """Return the dataset in `out` that an extraction updates; None if there is none, or with `overwrite`.

    Raises:
        UserError: the folder contains something else, or without `overwrite` a generated dataset.
    """
    replaceable = {"dataset", "generated dataset"} if overwrite else {"dataset"}
    check_output_folder(out, replaceable, hint="" if overwrite else _OVERWRITE)
    return None if overwrite or not (out / MANIFEST_NAME).is_file() else open_shards(out)


def check_same_dataset(existing: ShardManifest, out: Path, data: Path, requested: dict[str, Any]) -> None:
    """Check that an extraction with the settings `requested` updates the dataset that is in `out`.

    Raises:
        UserError: the dataset is one of other data, or with other settings.
    """
    used = {
        "features": existing.features.to_dict(),
        "augment": existing.augment.to_dict(),
        "multi_label": existing.multi_label,
        "hop": existing.hop,
        **existing.source.get("settings", {}),
    }
    # Datasets of earlier versions do not record all of them.
    requested = {name: value for name, value in requested.items() if name in used}
    if changes := diff_settings(used, requested, ""):
        raise UserError(
            f"--out {out} already contains shards made with {changes[0]}; "
            "choose another --out, or add --overwrite to replace them"
        )
    source = str(existing.source.get("data", ""))
    if location_of(source) != location_of(data):
        raise UserError(
            f"--out {out} already contains shards of {source} (requested {data}); "
            "choose another --out, or add --overwrite to replace them"
        )


def describe_update(
    out: Path, existing: ShardManifest, names: Collection[str], pending_ids: Iterable[str]
) -> str | None:
    """Return one line about the changes to an existing dataset, or None if nothing changes.

    Args:
        out: folder of the dataset.
        existing: its manifest.
        names: names of all its shards after the update.
        pending_ids: ids of the clips of those that are not in the manifest.
    """
    outdated = sorted({shard.name for shard in existing.shards} - set(names))
    added = len(set(names) - {shard.name for shard in existing.shards})
    if not outdated and not added:
        return None
    changed = f"{added} of {plural(len(names), 'shard')} to extract"
    try:
        old_ids = _clip_ids(out, outdated)
    except UserError:  # a shard that is missing or damaged, and no longer needed
        return f"updating {out}: {changed}"
    new_ids = set(pending_ids)
    if new_ids == old_ids:
        return f"updating {out}: the same clips, other content or label; {changed}"
    new = plural(len(new_ids - old_ids), "clip")
    return f"updating {out}: {new} new, {len(old_ids - new_ids)} gone; {changed}"


def _clip_ids(folder: Path, names: Iterable[str]) -> set[str]:
    """Return the ids of all clips of some shards, usable or not."""

    def read(name: str) -> list[str]:
        rejected = [clip.clip_id for clip in read_shard_footer(folder / name).rejected]
        return rejected + read_shard(folder / name, ["clip_id"])["clip_id"].unique().to_pylist()

    return {clip_id for ids in map_concurrently(read, names) for clip_id in ids}

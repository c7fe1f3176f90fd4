"""A job over many clips, cut into units that are done whole or not at all.

A unit's name holds a digest of all that goes into it: the settings, and each clip's name, label, size and time. What is
there under that name is therefore what would be made, and a job that runs again makes only what is missing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Unit:
    """Some clips of a manifest, and the name of the file that they become."""

    name: str
    clips: list[dict[str, Any]]


def cut_units(clips: pd.DataFrame, size: int, settings: Any) -> list[Unit]:
    """Cuts a manifest into units of `size` neighbouring clips, the same for any cluster.

    Args:
        clips: the manifest.
        size: clips of a unit; the last may have fewer.
        settings: JSON-able; all else that decides what a unit becomes.
    """
    units = []
    for index, start in enumerate(range(0, len(clips), size)):
        records: list[Any] = clips.iloc[start : start + size].to_dict("records")
        digest = hashlib.sha256(json.dumps([settings, records], sort_keys=True).encode()).hexdigest()[:12]
        units.append(Unit(f"part-{index:05d}-{digest}.parquet", records))
    return units


def pack(unit: Unit) -> dict[str, str]:
    """A unit as a row of Ray Data."""
    return {"name": unit.name, "clips": json.dumps(unit.clips)}

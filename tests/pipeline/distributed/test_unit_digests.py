"""Digests of work units, which decide what is computed again."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pipeline.distributed.unit_digests import to_arrow, unit_digests

CLIPS = {
    "clip_id": ["a", "b", "ü", "", "e"],
    "path": ["/x/a", "/x/b", "/x/ü", "/x/d", "/x/e"],
    "fold": [1, 2, -1, 4, 5],
    "fraction": [0.0, 0.5, 1.0, 2.0, float("nan")],
}


def digests(clips_per_unit: int = 2, settings: Any = 1, **changes: list) -> list[str]:
    return unit_digests(to_arrow(pd.DataFrame(CLIPS | changes)), clips_per_unit, settings)


def test_digests_are_those_of_every_release():
    """Another digest makes all shards of all users again."""
    assert digests() == ["006a2716d35c", "b870e74f623f", "23400360c2b6"]


def test_each_unit_has_its_own_digest():
    assert len({*digests(), *digests(settings=2), *digests(clips_per_unit=3)}) == 8


@pytest.mark.parametrize(
    ("column", "value"), [("clip_id", "bb"), ("path", "/x/B"), ("fold", 3), ("fraction", 0.25)]
)
def test_changed_value_changes_only_its_unit(column: str, value: Any):
    changed = digests(**{column: [CLIPS[column][0], value, *CLIPS[column][2:]]})
    assert [old == new for old, new in zip(digests(), changed, strict=True)] == [False, True, True]


def test_values_do_not_flow_into_their_neighbors():
    assert digests(clip_id=["ab", "", "ü", "", "e"])[0] != digests(clip_id=["a", "b", "ü", "", "e"])[0]
    assert digests(clip_id=["a", None, "ü", "", "e"])[0] != digests(clip_id=["a", "", "ü", "", "e"])[0]


def test_storage_type_of_texts_does_not_count():
    objects = pd.DataFrame(CLIPS).astype({"clip_id": object, "path": object})
    assert unit_digests(to_arrow(objects), 2, 1) == digests()


def test_equal_slices_of_other_tables_have_equal_digests():
    shifted = pd.DataFrame({name: [values[0], *values] for name, values in CLIPS.items()}).iloc[1:]
    assert unit_digests(to_arrow(shifted), 2, 1) == digests()


def test_options_of_uris_do_not_count():
    plain = [f"s3://sounds/{name}" for name in ("a", "b?", "what?.wav", "d", "x?y=z/e.wav")]
    first = digests(path=[f"{path}?endpoint=http://one:9000&region=x" for path in plain])
    assert first == digests(path=[f"{path}?endpoint_override=two%3A9000" for path in plain])
    assert first != digests(path=[path.replace("sounds", "other") for path in plain])
    assert digests(path=["/x/a?b=1", *CLIPS["path"][1:]])[0] != digests(path=["/x/a", *CLIPS["path"][1:]])[0]

"""Names for Ray: ASCII, readable where they were, and short."""

from __future__ import annotations

import pytest

from pipeline.distributed.ray_names import MAX_LENGTH, ray_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [("first 1-a_b.c", "first 1-a_b.c"), ("été", "%C3%A9t%C3%A9"), ("a\udcff", "a%FF"), ("鳥", "%E9%B3%A5")],
)
def test_only_other_characters_than_ascii_are_encoded(name: str, expected: str) -> None:
    assert ray_name(name) == expected


def test_name_is_short_enough_for_names_of_log_files() -> None:
    assert ray_name(255 * "a") == MAX_LENGTH * "a"
    assert len(ray_name(80 * "é")) == MAX_LENGTH

"""Numbers agree with their nouns."""

from __future__ import annotations

import pytest

from pipeline.io.text import plural


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "node", "0 nodes"),
        (1, "node", "1 node"),
        (2, "node", "2 nodes"),
        (1.0, "CPU", "1 CPU"),
        (0.5, "GPU", "0.5 GPU"),
        (2.0, "GPU", "2 GPUs"),
        (3, "class", "3 classes"),
        (3, "epoch", "3 epochs"),
        (2_000_000, "clip", "2000000 clips"),
    ],
)
def test_noun_agrees_with_its_number(count: float, noun: str, text: str):
    assert plural(count, noun) == text

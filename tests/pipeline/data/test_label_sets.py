"""Classes of rows: one, several or none, and the rarest of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.data.label_sets import count_label_sets, join_label_sets, label_sets
from pipeline.data.rows import Rows

NAMES = ("cat", "dog", "rain")


def table(*labels: str) -> pd.DataFrame:
    return pd.DataFrame({"label": labels})


def test_label_sets_have_all_classes_of_a_row() -> None:
    sets = label_sets(table("dog;rain", "", "dog", "dog;rain", "bird;cat"), NAMES, True)
    expected = [[0, 1, 1], [0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert sets[:].dtype == bool and sets[:].astype(int).tolist() == expected
    assert len(sets.sets) == 4  # equal rows share theirs
    assert sets[np.array([4, 1])].sum() == 1
    assert sets.sizes.tolist() == [2, 0, 1, 2, 1]
    assert sets.counts().tolist() == [1, 3, 2]
    assert sets.counts(np.array([0, 2])).tolist() == [0, 2, 1]


def test_separator_in_single_label_is_part_of_name() -> None:
    sets = label_sets(table("a;b", "a"), ("a", "a;b"), False)
    assert sets[:].tolist() == [[False, True], [True, False]]
    assert not label_sets(table("other"), NAMES, False)[:].any()


def test_labels_of_multi_label_rows_are_rarest_classes() -> None:
    rows = Rows(NAMES, table("dog;rain", "", "dog", "cat;dog;rain", "dog"), multi_label=True)
    assert rows.labels.tolist() == [2, 3, 1, 0, 1]
    assert rows.targets.sum(axis=0).tolist() == [1, 4, 2]


@pytest.mark.parametrize("seed", range(5))
def test_rarest_classes_equal_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.random((50, 3)) < (0.1, 0.4, 0.3)
    texts = [";".join(np.array(NAMES)[row]) for row in targets]
    counts = targets.sum(axis=0)
    expected = [min(np.flatnonzero(row), key=lambda c: counts[c], default=3) for row in targets]
    assert label_sets(table(*texts), NAMES, True).rarest_classes().tolist() == expected


def test_joined_label_sets_follow_each_other() -> None:
    first, second = label_sets(table("dog;rain", ""), NAMES, True), label_sets(table("cat"), NAMES, False)
    joined = join_label_sets([first, second])
    assert joined[:].tolist() == [*first[:].tolist(), *second[:].tolist()]
    assert count_label_sets(joined.sizes) == "1 of 3 rows have no class and 1 have several"

"""Who is learnt from and who validates: stratified by class, and never with one recording on both sides."""

from __future__ import annotations

import numpy as np


def group_split(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which clips validate.

    Args:
        labels: class of each clip `[shape=(N,)]`.
        groups: the recording that each clip comes from `[shape=(N,)]`; a group lies wholly on one side.
        fraction: part to validate with, in [0, 1); each class comes as near to it as its groups allow.
        seed: of the order in which groups are dealt.

    Returns:
        `[shape=(N,)]` bool. A class is never chosen wholly, and so one of a single group not at all: it could not be learnt.
    """
    chosen = np.zeros(len(labels), bool)
    if fraction <= 0:
        return chosen
    rng = np.random.default_rng(seed)
    taken: dict[object, bool] = {}
    for label in np.unique(labels):
        of_class = labels == label
        names, counts = np.unique(groups[of_class], return_counts=True)
        if len(names) < 2:
            continue
        want = max(1, round(fraction * counts.sum()))
        # A group that spans classes was decided with the first of them.
        want -= sum(int(n) for name, n in zip(names, counts, strict=True) if taken.get(name))
        free = [i for i in rng.permutation(len(names)) if names[i] not in taken]
        picked = _fill(counts[free], want, len(free) - 1 if len(free) == len(names) else len(free))
        for place, i in enumerate(free):
            taken[names[i]] = place in picked
    for label in np.unique(labels):  # a group that spans classes may have been chosen for the sake of another
        of_class = groups[labels == label]
        if all(taken.get(group, False) for group in of_class):
            taken[of_class[0]] = False
    return np.array([taken.get(group, False) for group in groups], bool)


def _fill(counts: np.ndarray, want: int, most: int) -> set[int]:
    """Greedily the groups, in the given order, that come nearest to `want` clips without passing it by more than they help."""
    picked: set[int] = set()
    for place, count in enumerate(counts):
        if len(picked) < most and abs(want - count) < abs(want):
            picked.add(place)
            want -= int(count)
    return picked


def group_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Deals clips into folds 1 … `num_folds`, stratified, each group in one fold; `[shape=(N,)]` int."""
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, and seldom needed

    folds = np.zeros(len(labels), int)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups), start=1):
        folds[held_out] = fold
    return folds


def groups_on_both_sides(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[str]:
    """Groups with clips on both sides, given as masks `[shape=(N,)]`; empty when nothing leaks."""
    return sorted(set(groups[first]) & set(groups[second]))

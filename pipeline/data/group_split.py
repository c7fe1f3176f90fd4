"""Stratified, grouped train/validation splits: no recording is on both sides.

In shapes: N number of clips. A group is the recording that a clip comes from.
"""

from __future__ import annotations

import numpy as np


def group_split(labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Select the validation clips.

    Args:
        labels: class of each clip `[shape=(N,)]`.
        groups: group of each clip `[shape=(N,)]`; a group is never split.
        fraction: validation fraction in [0, 1); each class gets as close to it as its groups allow, and at
            least one group.
        seed: seed of the order in which groups are considered.

    Returns:
        Validation mask, bool `[shape=(N,)]`. Each class keeps at least one group for training, so that a
        class with a single group has no validation clips.
    """
    if fraction <= 0:
        return np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    is_val: dict[object, bool] = {}
    for label in np.unique(labels):
        class_mask = labels == label
        names, counts = np.unique(groups[class_mask], return_counts=True)
        if len(names) < 2:
            continue
        target = max(1, round(fraction * counts.sum()))
        # A group with clips of several classes is assigned with the first of them.
        target -= sum(int(count) for name, count in zip(names, counts, strict=True) if is_val.get(name))
        undecided = [i for i in rng.permutation(len(names)) if names[i] not in is_val]
        limit = len(undecided) - 1 if len(undecided) == len(names) else len(undecided)
        selected = _select_groups(counts[undecided], target, limit)
        for position, i in enumerate(undecided):
            is_val[names[i]] = position in selected
    # Groups of several classes, selected for one, may be all groups of another.
    for label in np.unique(labels):
        class_groups = groups[labels == label]
        if all(is_val.get(group, False) for group in class_groups):
            is_val[class_groups[0]] = False
    return np.array([is_val.get(group, False) for group in groups], bool)


def _select_groups(counts: np.ndarray, target: int, limit: int) -> set[int]:
    """Select up to `limit` groups, at least one, greedily so that their clips approach `target`.

    Args:
        counts: clips of each group, in the order in which groups are considered.
        target: desired number of clips; may be exceeded if that is closer.
        limit: maximum number of groups.

    Returns:
        Indices into `counts`.
    """
    selected: set[int] = set()
    for i, count in enumerate(counts):
        if len(selected) < limit and abs(target - count) < abs(target):
            selected.add(i)
            target -= int(count)
    if not selected and limit and target > 0:
        # All groups are more than twice as large as desired: too many validation clips are better than none.
        selected.add(int(np.argmin(counts)))
    return selected


def group_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Assign clips to folds 1 … `num_folds`, stratified and grouped.

    Returns:
        Fold of each clip, int `[shape=(N,)]`.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # slow to import, rarely needed

    folds = np.zeros(len(labels), int)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    for fold, (_, test_index) in enumerate(splitter.split(labels, labels, groups), start=1):
        folds[test_index] = fold
    return folds


def groups_on_both_sides(groups: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[str]:
    """Return the groups, sorted, with clips in both masks `[shape=(N,)]`; empty if there is no leakage."""
    return sorted(set(groups[first]) & set(groups[second]))

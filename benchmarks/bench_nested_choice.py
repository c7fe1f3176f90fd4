"""What choosing on scored clips is worth: statistics of the texture head, chosen within the training folds.

    melray extract --data ESC-10 --out SHARDS --fold-pattern '^(\\d)-' --group-pattern '^\\d-(\\d+)-'
    python -m benchmarks.bench_nested_choice --shards SHARDS

A kernel machine with the exact kernel of the head predicts each fold. Which kinds of statistics it sees, and
the width of its kernel, are chosen twice: by the log loss of the scored folds, and for each scored fold by a
cross-validation of the other folds, which knows nothing of it. Kinds are left out one after the other while
the log loss falls. The difference between both is what the first choice was too good by.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.bench_calibration import Scored
from benchmarks.common import save_result
from models.random_features import KERNEL_WIDTH
from models.repetition import repeat_short_clips
from models.texture import MAX_DEVIATIONS
from models.texture_statistics import texture_statistics_by_kind
from pipeline.data.dataset import open_dataset

WIDTHS = (1.0, KERNEL_WIDTH, 2.0)
RIDGE = 0.05
BATCH_SIZE = 64
# Of outputs, which are about 1 for the class of a clip and 0 for others, to be logits.
SCALE = 10.0


class Choice(NamedTuple):
    """Settings of a kernel machine."""

    kinds: tuple[str, ...]
    width: float

    def without_each_kind(self) -> dict[str, Choice]:
        """Return the settings without one of the kinds, by the kind that is left out."""
        return {kind: self._replace(kinds=tuple(k for k in self.kinds if k != kind)) for kind in self.kinds}


class Data(NamedTuple):
    """Clips and their augmented copies, which are trained on but not scored."""

    statistics: dict[str, np.ndarray]
    """Of each kind `[shape=(N, K)]`."""
    labels: np.ndarray
    """`[shape=(N,)]`"""
    folds: np.ndarray
    """`[shape=(N,)]`"""
    is_clip: np.ndarray
    """`[shape=(N,)]`"""


def load(shards: Path) -> Data:
    """Return the statistics of a dataset with folds."""
    dataset = open_dataset(shards)
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(dataset.labels), BATCH_SIZE):
        mel_BMT = torch.from_numpy(np.array(dataset.mels[start : start + BATCH_SIZE])).float()
        for kind, statistics_BK in texture_statistics_by_kind(repeat_short_clips(mel_BMT)).items():
            parts.setdefault(kind, []).append(statistics_BK.numpy())
    table = dataset.table
    return Data(
        {kind: np.concatenate(values) for kind, values in parts.items()},
        dataset.labels,
        table["fold"].to_numpy(),
        table["copy"].to_numpy() == 0,
    )


class Machine:
    """Kernel machines that are trained on some folds and predict the clips of another."""

    def __init__(self, data: Data, train_folds: Sequence[int], fold: int):
        train = np.isin(data.folds, train_folds)
        scored = (data.folds == fold) & data.is_clip
        self._one_hot = np.eye(data.labels.max() + 1)[data.labels[train]]
        self._labels = data.labels[scored]
        # Squared distances from the training clips, by kind, of these and of the scored clips.
        self._distances: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
        for kind, values in data.statistics.items():
            mean, std = values[train].mean(0), values[train].std(0).clip(1e-3)
            scaled = np.clip((values - mean) / std, -MAX_DEVIATIONS, MAX_DEVIATIONS).astype(np.float64)
            inside, outside = scaled[train], scaled[scored]
            distances = _squared_distances(inside, inside), _squared_distances(outside, inside)
            self._distances[kind] = (*distances, values.shape[1])

    def predict(self, choice: Choice) -> Scored:
        """Return the probabilities of the scored clips, not calibrated."""
        parts = [self._distances[kind] for kind in choice.kinds]
        scale = 2 * choice.width**2 * sum(size for *_, size in parts)
        inside, outside = (np.exp(-sum(part[i] for part in parts) / scale) for i in range(2))
        offset = self._one_hot.mean(0)
        weights = np.linalg.solve(inside + RIDGE * np.eye(len(inside)), self._one_hot - offset)
        logits = torch.from_numpy(SCALE * (outside @ weights + offset))
        return Scored(logits.softmax(1).numpy(), self._labels)


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = (first**2).sum(1)[:, None] + (second**2).sum(1)
    distances: np.ndarray = np.maximum(lengths - 2 * first @ second.T, 0)
    return distances


def score(predictions: Sequence[Scored]) -> dict[str, float]:
    """Return the accuracy of all clips, and their log loss at the temperature that is best for them."""
    summary = Scored.join(predictions).at_best_temperature().summary()
    return {key: summary[key] for key in ("accuracy", "log_loss")}


def log_loss(machines: Sequence[Machine], choice: Choice) -> float:
    """Return the log loss of the clips of all machines."""
    return score([machine.predict(choice) for machine in machines])["log_loss"]


def choose(machines: Sequence[Machine], kinds: Sequence[str]) -> Choice:
    """Return the settings with the lowest log loss that is found by leaving out kinds one by one."""
    losses = {choice: log_loss(machines, choice) for choice in (Choice(tuple(kinds), w) for w in WIDTHS)}
    best = min(losses, key=lambda choice: losses[choice])
    while len(best.kinds) > 1:
        losses |= {choice: log_loss(machines, choice) for choice in best.without_each_kind().values()}
        if (next_best := min(losses, key=lambda choice: losses[choice])) == best:
            break
        best = next_best
    return best


def choose_for_fold(data: Data, folds: Sequence[int], fold: int) -> Choice:
    """Return the settings that are best in a cross-validation of all folds but one."""
    others = [other for other in folds if other != fold]
    machines = [Machine(data, [other for other in others if other != scored], scored) for scored in others]
    choice = choose(machines, tuple(data.statistics))
    left_out = ", ".join(sorted(set(data.statistics) - set(choice.kinds))) or "none"
    print(f"without fold {fold}: width {choice.width:.3g}, left out: {left_out}")
    return choice


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True, help="dataset with folds")
    parser.add_argument("--result", default="nested_choice", help="name of the result file")
    options = parser.parse_args()
    data = load(options.shards)
    kinds = tuple(data.statistics)
    folds = sorted(set(data.folds.tolist()))
    chosen = {fold: choose_for_fold(data, folds, fold) for fold in folds}
    machines = {fold: Machine(data, [other for other in folds if other != fold], fold) for fold in folds}
    best = choose(list(machines.values()), kinds)
    default = Choice(kinds, KERNEL_WIDTH)
    candidates = {"default": default} | {
        f"without {kind}": choice for kind, choice in default.without_each_kind().items()
    }
    save_result(
        options.result,
        {
            "chosen_within_training_folds": score([machines[fold].predict(chosen[fold]) for fold in folds]),
            "chosen_on_scored_folds": score([machine.predict(best) for machine in machines.values()]),
            "choices": {str(fold): choice._asdict() for fold, choice in chosen.items()},
            "choice_on_scored_folds": best._asdict(),
            "scores": {
                name: score([machine.predict(choice) for machine in machines.values()])
                for name, choice in candidates.items()
            },
        },
    )


if __name__ == "__main__":
    main()

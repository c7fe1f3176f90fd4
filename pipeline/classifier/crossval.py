"""Cross-validation: each fold is held out once, from a training that never sees it, and only scores.

By default a fold's training validates nothing either: it runs its epochs and keeps the last averaged weights, so that no
choice at all hangs on the clips that are scored. Folds of one worker run side by side, as many as the cluster has room for.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from pydantic import Field

from models.metrics import classification_metrics
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.evaluate import (
    EvaluateConfig,
    Predictions,
    predict_rows,
    select_rows,
    write_evaluation,
)
from pipeline.classifier.train import train_many
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.manifest import NO_FOLD
from pipeline.data.split import row_folds
from pipeline.io.console import duration
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_classifier
from pipeline.training.run_folder import RunFolder


class CrossvalConfig(TrainClassifierConfig):
    """Trains and scores once for each fold; the settings are those of `train-classifier`.

    With --tuned, each fold's settings come from a search of its own: `melray crossval --tuned --help`.
    """

    val_fraction: float = Field(0.0, ge=0, lt=1)
    """Part of each fold's training clips that validates; 0 trains on all and keeps the last epoch."""
    tta_shifts: int = Field(1, ge=1, le=64)
    """Averages each prediction over so many turns of the clip in time."""


def crossval(config: CrossvalConfig) -> dict[str, Any]:
    """Trains what is not finished, scores each fold, writes `crossval.json` and `report.html`; returns the figures.

    Raises:
        UserError: no folds, unusable shards, too few resources.
    """
    rows = open_dataset(config.shards)
    folds = known_folds(rows, config)
    start = time.monotonic()
    config.run.mkdir(parents=True, exist_ok=True)
    runs = {fold: fold_config(config, fold) for fold in folds}
    train_many({f"fold {fold}": run for fold, run in runs.items()})
    return report_folds(config, rows, runs, time.monotonic() - start)


def known_folds(rows: ShardDataset, config: TrainClassifierConfig) -> list[int]:
    """The numbers of the folds, in order.

    Raises:
        UserError: when there are fewer than two.
    """
    folds = sorted(set(row_folds(rows, config).tolist()) - {NO_FOLD})
    if len(folds) < 2:
        raise UserError(
            f"--shards {config.shards}: {len(folds)} folds; add --num-folds 5, or extract with --fold-pattern or a CSV column 'fold'"
        )
    return folds


def fold_config(config: CrossvalConfig, fold: int) -> TrainClassifierConfig:
    """The training that holds `fold` out, in its own folder below the run."""
    return config.subset(TrainClassifierConfig).model_copy(
        update={"fold": fold, "run": config.run / f"fold_{fold}"}
    )


def report_folds(
    config: CrossvalConfig, rows: ShardDataset, runs: dict[int, TrainClassifierConfig], seconds: float
) -> dict[str, Any]:
    """Scores every fold on its held-out clips and all of them together."""
    by_fold: list[dict[str, Any]] = []
    parts = []
    for fold, run in runs.items():
        saved = load_classifier(run.run)
        _, index, what = select_rows(EvaluateConfig(run=run.run, split="held-out"), saved)
        parts.append(predict_rows(saved, rows, index, config.tta_shifts))
        history = RunFolder(run.run).read_history()
        metrics = write_evaluation(run.run, parts[-1], saved, history, what, config.tta_shifts)
        trained = RunFolder(run.run).read_json("summary.json")
        by_fold.append(
            {"fold": fold, "train_seconds": trained["total_seconds"]} | {key: metrics[key] for key in SCORES}
        )
    pooled = Predictions(
        rows,
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("index", "labels", "probabilities")
        ),
    )
    write_evaluation(
        config.run, pooled, saved, [], f"{len(runs)} folds, each held out once", config.tta_shifts
    )
    result: dict[str, Any] = {
        "folds": by_fold,
        "mean": {key: float(np.mean([fold[key] for fold in by_fold])) for key in SCORES},
        "deviation": {key: float(np.std([fold[key] for fold in by_fold], ddof=1)) for key in SCORES},
        "pooled": {
            key: classification_metrics(pooled.probabilities, pooled.labels, list(saved.card.class_names))[
                key
            ]
            for key in SCORES
        },
        "seconds": seconds,
    }
    RunFolder(config.run).write_json("crossval.json", result)
    for fold_line in by_fold:
        print(
            f"fold {fold_line['fold']}: accuracy {fold_line['accuracy']:.1%}, macro-F1 {fold_line['macro_f1']:.3f}"
        )
    mean, deviation = result["mean"], result["deviation"]
    print(
        f"mean of {len(runs)} folds: accuracy {mean['accuracy']:.1%} ± {deviation['accuracy']:.1%}, macro-F1 {mean['macro_f1']:.3f}"
    )
    print(f"in {duration(seconds)}; report: {config.run / 'report.html'}", flush=True)
    return result


SCORES = ("accuracy", "macro_f1", "log_loss", "ece")

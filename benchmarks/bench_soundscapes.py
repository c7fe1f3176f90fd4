"""Detection of events in soundscapes of ESC-10: multi-label training on windows, and on single clips.

    python -m benchmarks.bench_soundscapes --esc10 ESC-10 --out FOLDER [--folds 1 2 3 4 5 --seeds 1 2 3]

For each fold, classifiers are trained on soundscapes of a minute (`tests/helpers/soundscapes.py`) made of the
clips of the other folds, 40 in all, and score a recording of ten minutes made of the clips of that fold:

    multi-label    windows of the soundscapes, with the classes of their annotated events
    single clips   windows of the clips that the soundscapes are made of, one class each

Both have the same network, number of steps and spectrograms. Length and hop of windows and the threshold of
events are those with the best macro event-based F1 on the soundscapes of another fold, scored by a classifier
trained without that fold, for each arm separately. A rerun resumes.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from benchmarks.common import save_result
from benchmarks.soundscape_scores import best_threshold, read_windows_table, score_events, window_map
from models.settings import ClassifierConfig
from tests.helpers.soundscapes import ANNOTATIONS_NAME, SoundscapeConfig, write_soundscapes
from tests.helpers.source_sounds import esc10_sounds

MULTI_LABEL, SINGLE = ARMS = ("multi-label", "single clips")
FOLDS = (1, 2, 3, 4, 5)
# Small, so that dozens of training runs take minutes; equal in both arms.
NETWORK = ClassifierConfig(channels=(16, 32, 64, 128), convs_per_block=1, embedding_dim=128, dropout=0.2)
FEATURES = {"mel": {"sample_rate": 22_050, "n_fft": 1024, "hop_length": 512, "n_mels": 64}}


class Windows(NamedTuple):
    """Length and hop of windows in seconds."""

    seconds: float
    hop: float

    @classmethod
    def parse(cls, text: str) -> Windows:
        """Return the windows that a text such as `1:0.5` describes."""
        return cls(*map(float, text.split(":")))

    def __str__(self) -> str:
        return f"{self.seconds:g}_{self.hop:g}"


class Trial(NamedTuple):
    """A classifier of one arm, for one held-out fold."""

    arm: str
    fold: int
    windows: Windows
    seed: int
    is_final: bool
    """Whether it is trained on all other folds; otherwise without the fold that thresholds are chosen on."""

    @property
    def name(self) -> str:
        """Name of its run."""
        stage = "final" if self.is_final else "selection"
        return f"{self.arm.replace(' ', '-')}_fold{self.fold}_{self.windows}_seed{self.seed}_{stage}"


def selection_fold(fold: int) -> int:
    """Return the fold whose soundscapes select settings for a held-out fold."""
    return fold % len(FOLDS) + 1


def write_data(options: argparse.Namespace) -> None:
    """Write the soundscapes, the clips that they are made of, and their tables without each held-out fold."""
    sounds = esc10_sounds(options.esc10, FOLDS)
    per_fold = dict.fromkeys(FOLDS, options.per_fold)
    write_soundscapes(options.out / "soundscapes", sounds, per_fold, SoundscapeConfig(), seed=1)
    long = SoundscapeConfig(seconds=60.0 * options.minutes)
    write_soundscapes(options.out / "held_out", sounds, dict.fromkeys(FOLDS, 1), long, seed=2)
    rows = []
    for number, sound in enumerate(sounds):
        path = options.out / "clips" / sound.label / f"{sound.fold}-{number:03d}.flac"
        rows.append((path, sound.label, sound.fold))
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            peak = np.abs(sound.samples).max()
            soundfile.write(path, sound.samples / peak * 0.9, FEATURES["mel"]["sample_rate"])
    for fold in options.folds:
        events = _read_rows(options.out / "soundscapes" / ANNOTATIONS_NAME)
        table = [
            {**row, "path": options.out / "soundscapes" / row["path"]}
            for row in events
            if int(row["fold"]) != fold
        ]
        _write_rows(_table(options.out, MULTI_LABEL, fold), table)
        clips = [dict(zip(("path", "label", "fold"), row, strict=True)) for row in rows if row[2] != fold]
        _write_rows(_table(options.out, SINGLE, fold), clips)


def _table(out: Path, arm: str, fold: int) -> Path:
    return out / "tables" / f"{arm.replace(' ', '-')}_fold{fold}.csv"


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def extract_windows(key: tuple[str, int, Windows], options: argparse.Namespace) -> None:
    """Extract the windows of an arm for a held-out fold."""
    from pipeline.distributed.batch_job import run_in_process
    from pipeline.extract import ExtractConfig, extract

    arm, fold, windows = key
    config = ExtractConfig(
        data=_table(options.out, arm, fold),
        out=_shards(options.out, *key),
        window=windows.seconds,
        hop=windows.hop,
        copies=0 if arm == MULTI_LABEL else options.copies,
        features=FEATURES,
    )
    if not (config.out / "_manifest.json").is_file():
        extract(config, run_in_process)


def _shards(out: Path, arm: str, fold: int, windows: Windows) -> Path:
    return out / "shards" / f"{arm.replace(' ', '-')}_fold{fold}_{windows}"


def train(trial: Trial, options: argparse.Namespace) -> Path:
    """Train a classifier for --steps steps up to its last epoch; return its run."""
    from pipeline.classifier.config import TrainClassifierConfig
    from pipeline.classifier.train import begin_run, train_in_process
    from pipeline.data.dataset import open_dataset
    from pipeline.data.split import split_rows

    config = TrainClassifierConfig(
        shards=_shards(options.out, trial.arm, trial.fold, trial.windows),
        run=options.out / "runs" / trial.name,
        fold=None if trial.is_final else selection_fold(trial.fold),
        val_fraction=0.0,
        keep="last",
        model=NETWORK,
        learning_rate=4e-3,
        seed=trial.seed,
    )
    rows = len(split_rows(open_dataset(config.shards), config).train)
    epochs = max(1, round(options.steps / -(-rows // config.batch_size)))
    config = config.model_copy(update={"epochs": epochs, "patience": epochs})
    if begin_run(config) is None:
        train_in_process(config)
    return config.run


def predict_windows(trial: Trial, run: Path, audio: Path, out: Path, threshold: float | None = None) -> Path:
    """Predict the windows of the recordings in a folder."""
    from pipeline.classifier.predict import PredictConfig, write_predictions
    from pipeline.distributed.batch_job import run_in_process

    config = PredictConfig(
        run=run,
        audio=audio,
        out=out,
        window=trial.windows.seconds,
        hop=trial.windows.hop,
        threshold=threshold,
    )
    write_predictions(config, run_in_process)
    return out


def select(trial: Trial, options: argparse.Namespace) -> dict[str, float]:
    """Return the threshold with the best macro F1 on the soundscapes of the selection fold, and this F1."""
    fold = selection_fold(trial.fold)
    run = train(trial, options)
    folder = f"fold_{fold}"
    out = predict_windows(trial, run, options.out / "soundscapes" / folder, run / "predictions")
    tables = read_windows_table(out, options.out / "soundscapes" / ANNOTATIONS_NAME, f"{folder}/")
    threshold, score = best_threshold(tables, trial.windows.seconds, trial.windows.hop)
    return {"threshold": threshold, "macro_f1": score}


def score(trial: Trial, options: argparse.Namespace, threshold: float) -> dict[str, Any]:
    """Train on all folds but the held-out one, and return all scores of its recording."""
    run = train(trial, options)
    folder = f"fold_{trial.fold}"
    out = predict_windows(trial, run, options.out / "held_out" / folder, run / "predictions", threshold)
    tables = read_windows_table(out, options.out / "held_out" / ANNOTATIONS_NAME, f"{folder}/")
    return {
        "map": window_map(tables, trial.windows.seconds),
        **score_events(out, tables),
    }


def remember(function: Callable[..., Any], trial: Trial, options: argparse.Namespace, *arguments: Any) -> Any:
    """Return the result of a function for a trial, which is computed once and kept as JSON."""
    import torch

    path = options.out / "scores" / f"{trial.name}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    result = function(trial, options, *arguments)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result), encoding="utf-8")
    return result


def choose_windows(options: argparse.Namespace, pool: Any) -> dict[tuple[str, int], dict[str, Any]]:
    """Return windows and threshold for each arm and held-out fold, and the F1 of all that were tried."""
    trials = [
        Trial(arm, fold, windows, options.seeds[0], False)
        for arm, fold, windows in itertools.product(ARMS, options.folds, options.windows)
    ]
    results = pool.map(partial(remember, select, options=options), trials, chunksize=1)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for trial, result in zip(trials, results, strict=True):
        entry = found.setdefault((trial.arm, trial.fold), {"macro_f1": -1.0, "tried": {}})
        entry["tried"][str(trial.windows)] = result
        if result["macro_f1"] > entry["macro_f1"]:
            entry |= {"windows": trial.windows, **result}
    return found


def summarize_arm(scores: Sequence[dict[str, Any]], folds: int) -> dict[str, Any]:
    """Return means over folds and seeds, and standard deviations over seeds of the means over folds.

    Args:
        scores: of each seed, and in it of each fold.
        folds: number of folds.
    """
    summary = {}
    for key in ("map", "event_macro_f1", "event_micro_f1", "segment_macro_f1", "onset_macro_f1"):
        values = [entry[key] for entry in scores]
        means = [statistics.mean(values[i : i + folds]) for i in range(0, len(values), folds)]
        std = statistics.stdev(means) if len(means) > 1 else None
        summary[key] = {"mean": statistics.mean(means), "std_over_seeds": std, "each": values}
    return summary


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=list(FOLDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    windows = [Windows(1.0, 0.25), Windows(2.0, 0.5)]
    parser.add_argument(
        "--windows", type=Windows.parse, nargs="+", default=windows, help="candidates, such as 1:0.5"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--per-fold", type=int, default=10, help="soundscapes of a minute")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of the held-out recordings")
    parser.add_argument("--copies", type=int, default=2, help="augmented copies of single clips")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.out = options.out.absolute()
    write_data(options)
    keys = list(itertools.product(ARMS, options.folds, options.windows))
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        pool.map(partial(extract_windows, options=options), keys, chunksize=1)
        chosen = choose_windows(options, pool)
        trials = [
            Trial(arm, fold, chosen[arm, fold]["windows"], seed, True)
            for arm, seed, fold in itertools.product(ARMS, options.seeds, options.folds)
        ]
        thresholds = [chosen[trial.arm, trial.fold]["threshold"] for trial in trials]
        scores = pool.starmap(
            partial(_score_trial, options), zip(trials, thresholds, strict=True), chunksize=1
        )
    result: dict[str, Any] = {key: getattr(options, key) for key in ("folds", "seeds", "steps", "per_fold")}
    result["minutes"] = options.minutes
    for arm in ARMS:
        own = [entry for trial, entry in zip(trials, scores, strict=True) if trial.arm == arm]
        selection = {f"fold {fold}": chosen[arm, fold] for fold in options.folds}
        result[arm] = summarize_arm(own, len(options.folds)) | {"selection": selection}
    save_result("soundscapes", result)


def _score_trial(options: argparse.Namespace, trial: Trial, threshold: float) -> dict[str, Any]:
    return remember(score, trial, options, threshold)


if __name__ == "__main__":
    main()

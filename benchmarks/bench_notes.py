"""Orchestral notes of pitches that were not trained on: the default classifier against MFCC and an SVM.

    apt install libfluidsynth3 fluid-soundfont-gm; pip install pyfluidsynth
    python -m benchmarks.bench_notes --out FOLDER [--size small --seeds 1 2 3 --variants NAME ...]

15 instruments from recorded samples, every semitone of their range. Three neighboring semitones are always
held out together, as the sound font plays several notes from one sample. melray gets the length of the clips,
nothing else. No held-out note is trained on: the last epoch is scored. Runs take one core each;
a rerun continues.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import librosa
import numpy as np

from benchmarks.bench_recipe import SMALL_MEL, SMALL_NETWORK
from benchmarks.common import save_result, summarize, train_without_fold
from benchmarks.note_clips import ORCHESTRA, RATE, SECONDS, write_notes

FOLDS, NEIGHBORS = 4, 3
VELOCITIES = (90,)
# Settings of the network that differ from the defaults.
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "no modulation spectrum": {"modulation": False},
        "texture statistics": {"texture": True},
        "no texture statistics": {"texture": False},
        "db+pcen": {"input": "db+pcen"},
    }
)


class Run(NamedTuple):
    """One training run without one fold."""

    variant: str
    fold: int
    seed: int


def write_clips(folder: Path) -> Path:
    """Write `<instrument>/<pitch>_<velocity>.wav` of all notes; return the folder."""
    notes = {name: (program, range(low, high + 1)) for name, (program, low, high) in ORCHESTRA.items()}
    return write_notes(folder, notes, VELOCITIES)


def fold_of(path: Path) -> int:
    """Return the fold of a note, by its pitch."""
    return int(path.name.partition("_")[0]) // NEIGHBORS % FOLDS + 1


def extract_shards(clips: Path, options: argparse.Namespace) -> Path:
    """Extract all notes; return the dataset."""
    from pipeline.distributed.batch_job import run_in_process
    from pipeline.extract import ExtractConfig, extract

    table = options.out / "notes.csv"
    rows = [f"{path},{path.parent.name},{fold_of(path)}" for path in sorted(clips.glob("*/*.wav"))]
    table.write_text("\n".join(["path,label,fold", *rows, ""]), encoding="utf-8")
    features: dict[str, Any] = {"seconds": SECONDS}
    if options.size == "small":
        features["mel"] = SMALL_MEL
    out = Path(options.out) / "shards" / options.size
    if not (out / "_manifest.json").is_file():
        extract(ExtractConfig(data=table, out=out, features=features), run_in_process)
    return out


def train_and_score(arguments: tuple[Run, Path, str]) -> tuple[Run, float]:
    """Train a classifier without a fold; return its accuracy on that fold."""
    run, out, size = arguments
    held_out = train_without_fold(
        shards=out / "shards" / size,
        run=out / "runs" / size / f"{run.variant.replace(' ', '-')}_{run.fold}_{run.seed}",
        fold=run.fold,
        seed=run.seed,
        model=(SMALL_NETWORK if size == "small" else {}) | dict(VARIANTS[run.variant]),
    )
    return run, float((held_out.probabilities().argmax(axis=1) == held_out.labels).mean())


def svm_accuracies(clips: Path) -> dict[int, float]:
    """Return the accuracy of an SVM on each fold, by mean and standard deviation of MFCCs and slopes."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    paths = sorted(clips.glob("*/*.wav"))
    labels, folds = (
        np.array([path.parent.name for path in paths]),
        np.array([fold_of(path) for path in paths]),
    )
    vectors = np.array([_mfcc_statistics(path) for path in paths])
    result = {}
    for fold in range(1, FOLDS + 1):
        is_out = folds == fold
        model = make_pipeline(StandardScaler(), SVC(C=10.0))
        model.fit(vectors[~is_out], labels[~is_out])
        result[fold] = float(model.score(vectors[is_out], labels[is_out]))
    return result


def _mfcc_statistics(path: Path) -> np.ndarray:
    samples, _ = librosa.load(path, sr=RATE)
    mfcc = librosa.feature.mfcc(y=samples, sr=RATE, n_mfcc=20)
    both = np.concatenate([mfcc, librosa.feature.delta(mfcc, mode="nearest")])
    return np.concatenate([both.mean(axis=1), both.std(axis=1)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=("small", "full"), default="full", help="full: the defaults")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--result", default="notes", help="name of the result file")
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    clips = write_clips(options.out / "clips")
    extract_shards(clips, options)
    svm = svm_accuracies(clips)
    print(f"SVM: {np.mean(list(svm.values())):.1%}", flush=True)
    result: dict[str, Any] = {"size": options.size, "seeds": options.seeds, "svm": svm}
    runs = [
        Run(variant, fold, seed)
        for variant in options.variants
        for seed in options.seeds
        for fold in range(1, FOLDS + 1)
    ]
    scores: dict[Run, float] = {}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        arguments = [(run, options.out, options.size) for run in runs]
        for run, accuracy in pool.imap_unordered(train_and_score, arguments):
            scores[run] = accuracy
            print(f"{run.variant}, fold {run.fold}, seed {run.seed}: {accuracy:.1%}", flush=True)
    for variant in options.variants:
        folds = {
            fold: [scores[Run(variant, fold, seed)] for seed in options.seeds] for fold in range(1, FOLDS + 1)
        }
        means = np.mean(list(folds.values()), axis=0)
        result[variant] = {"folds": folds, "mean_of_folds": summarize(means.tolist())}
        print(f"{variant}: {means.mean():.1%} {json.dumps(folds)}")
    save_result(options.result, result)


if __name__ == "__main__":
    main()

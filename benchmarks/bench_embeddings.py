"""Clip embeddings of classes that the network has not seen: a linear model with few labels.

    python -m benchmarks.bench_embeddings --esc10 ESC-10 --out FOLDER [--seeds 1 2]

Networks are trained on every second class of ESC-10, with the defaults. Of the other classes, some clips of
each get labels, from four of the five folds; logistic regression on features of these, or the nearest mean of
a class by cosine similarity, predicts the clips of the fifth. Features are clip embeddings, their two parts
(that of the network, also before training, and texture statistics), and mean and standard deviation over time
of MFCCs. Two training runs take place at the same time, of one core each; a rerun continues.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import save_result

# Clips of each class that have a label; 32 are all of four folds.
LABELED = (1, 2, 4, 8, 16, 32)
# Choices of the labeled clips for each fold.
DRAWS = 10
FOLDS = (1, 2, 3, 4, 5)
# Their parts have one length each, so that all values are scaled together; other features one by one.
CLIP_EMBEDDINGS = "clip embeddings"

# Predicts the classes of features from other features and their classes.
Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def write_halves(options: argparse.Namespace) -> list[Path]:
    """Extract the dataset of every second class, and that of the other classes; return both."""
    from pipeline.distributed.batch_job import run_in_process
    from pipeline.extract import ExtractConfig, extract

    classes = sorted(path for path in options.esc10.iterdir() if path.is_dir())
    folders = []
    for half in (0, 1):
        out = options.out / f"shards_{half}"
        table = options.out / f"half_{half}.csv"
        if not (out / "_manifest.json").is_file():
            with table.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "label", "fold"])
                for path in sorted(clip for folder in classes[half::2] for clip in folder.glob("*.ogg")):
                    writer.writerow([path.resolve(), path.parent.name, path.name.partition("-")[0]])
            extract(ExtractConfig(data=table, out=out), run_in_process)
        folders.append(out)
    return folders


def train(arguments: tuple[Path, Path, int]) -> None:
    """Train on all clips of a dataset, of one core, unless the run is complete."""
    import torch

    from pipeline.classifier.config import TrainClassifierConfig
    from pipeline.classifier.train import begin_run, train_in_process

    torch.set_num_threads(1)
    shards, run, seed = arguments
    config = TrainClassifierConfig(shards=shards, run=run, seed=seed, val_fraction=0.0)
    if begin_run(config) is None:
        train_in_process(config)


def features(run: Path, mels: np.ndarray) -> dict[str, np.ndarray]:
    """Return features of clips, each `[shape=(N, K)]`, by their names."""
    import torch

    from models.classifier import Classifier
    from models.repetition import repeat_short_clips
    from pipeline.training.model_file import load_classifier

    saved = load_classifier(run)
    torch.manual_seed(0)
    untrained = Classifier(saved.model.config, mels.shape[1], saved.model.num_classes).eval()
    untrained.set_statistics(saved.model.mel_mean_M, saved.model.mel_std_M)
    assert saved.model.texture is not None
    functions = {
        CLIP_EMBEDDINGS: lambda mel_BMT: saved.model.embed_and_classify(mel_BMT)[0],
        "network": saved.model.embed,
        "network before training": untrained.embed,
        "texture statistics": saved.model.texture.statistics,
    }
    mel_BMT = repeat_short_clips(torch.from_numpy(mels.astype(np.float32)))
    with torch.inference_mode():
        result = {
            name: torch.cat([function(part_BMT) for part_BMT in mel_BMT.split(8)]).numpy()
            for name, function in functions.items()
        }
    return result | {"MFCCs": mean_mfccs(mel_BMT.numpy())}


def mean_mfccs(mels: np.ndarray) -> np.ndarray:
    """Return mean and standard deviation over time of 20 MFCCs of spectrograms in dB `[shape=(N, 40)]`."""
    import librosa

    mfccs = np.stack([librosa.feature.mfcc(S=mel, n_mfcc=20) for mel in mels])
    return np.concatenate([mfccs.mean(axis=2), mfccs.std(axis=2)], axis=1)


def centered(values: np.ndarray, known: np.ndarray, one_scale: bool) -> np.ndarray:
    """Return features without mean, and with variance 1 each, or in the mean over all of them.

    Args:
        values: features `[shape=(N, K)]`.
        known: rows from which means and variances are taken.
        one_scale: all are divided by the same number.
    """
    values = values - values[known].mean(axis=0)
    variance = values[known].var(axis=0)
    return values / np.sqrt(variance.mean() if one_scale else np.maximum(variance, 1e-12))


def by_regression(known: np.ndarray, labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the classes that logistic regression on some features predicts for others."""
    from sklearn.linear_model import LogisticRegression

    return np.asarray(LogisticRegression(max_iter=1000).fit(known, labels).predict(values))


def by_cosine(known: np.ndarray, labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the classes whose mean over some features has the greatest cosine similarity to others."""
    classes = np.unique(labels)
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    means = np.stack([unit[labels == label].mean(axis=0) for label in classes])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return np.asarray(classes[(values @ means.T).argmax(axis=1)])


PREDICTORS = {"logistic regression": by_regression, "nearest class mean": by_cosine}


def accuracies(
    predict: Predictor, values: np.ndarray, labels: np.ndarray, folds: np.ndarray, labeled: int, name: str
) -> np.ndarray:
    """Return the accuracy on each fold, the mean over choices of the labeled clips `[shape=(folds,)]`."""
    scores = np.zeros((len(FOLDS), DRAWS))
    for row, fold in enumerate(FOLDS):
        others, held_out = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        scaled = centered(values, others, one_scale=name == CLIP_EMBEDDINGS)
        for draw in range(DRAWS):
            rng = np.random.default_rng([fold, draw])
            shuffled = rng.permutation(others)
            chosen = [shuffled[labels[shuffled] == label][:labeled] for label in np.unique(labels)]
            rows = np.concatenate(chosen)
            predicted = predict(scaled[rows], labels[rows], scaled[held_out])
            scores[row, draw] = (predicted == labels[held_out]).mean()
    return scores.mean(axis=1)


def score_half(run: Path, shards: Path) -> dict[str, dict[int, list[float]]]:
    """Return the accuracy on each fold of the clips of a dataset, by features and number of labels."""
    from pipeline.data.uncached import open_dataset_to_read

    dataset = open_dataset_to_read(shards)
    originals = np.flatnonzero(dataset.table["copy"].to_numpy() == 0)
    mels = np.stack([dataset.mels[row] for row in originals])
    labels, folds = dataset.labels[originals], dataset.table["fold"].to_numpy()[originals]
    return {
        f"{name}, {method}": {
            count: accuracies(predict, values, labels, folds, count, name).tolist() for count in LABELED
        }
        for name, values in features(run, mels).items()
        for method, predict in PREDICTORS.items()
    }


def summarize(halves: Sequence[dict[str, dict[int, list[float]]]]) -> dict[str, dict[str, float]]:
    """Return mean accuracies over halves of the classes, folds and seeds, by features and labels."""
    return {
        name: {str(count): float(np.mean([half[name][count] for half in halves])) for count in LABELED}
        for name in halves[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--esc10", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    shards = write_halves(options)
    runs = [
        (shards[half], options.out / f"run_{half}_seed{seed}", seed)
        for seed in options.seeds
        for half in (0, 1)
    ]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(train, runs, chunksize=1)
    # Each network is scored with the classes of the other half.
    scores = [score_half(run, shards[1 - shards.index(trained_on)]) for trained_on, run, _ in runs]
    result = {"seeds": options.seeds, "accuracy_by_labels_of_each_class": summarize(scores)}
    for name, values in result["accuracy_by_labels_of_each_class"].items():  # type: ignore[attr-defined]
        print(f"{name}: " + ", ".join(f"{count}: {value:.1%}" for count, value in values.items()), flush=True)
    save_result("embeddings", result)


if __name__ == "__main__":
    main()

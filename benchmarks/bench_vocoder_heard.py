"""Resynthesized recordings and generated clips, evaluated by a classifier at another resolution.

    melray extract          --data ESC-10 --out SHARDS --copies 0 --fold-pattern '^(\\d)-' --group-pattern '^\\d-(\\d+)-'
    melray train-gan        --shards SHARDS --run GAN --fold 5
    melray extract          --data ESC-10 --out FINE --features.mel.n-fft 512 --features.mel.hop-length 256 --features.mel.n-mels 64 --fold-pattern '^(\\d)-' --group-pattern '^\\d-(\\d+)-'
    melray train-classifier --shards FINE --run CLASSIFIER --fold 5 --val-fraction 0 --epochs 40
    python -m benchmarks.bench_vocoder_heard --shards SHARDS --classifier CLASSIFIER [--gan GAN]

librosa's Griffin-Lim with 32 iterations, and that of melray with several numbers of them. Errors of spectra in
dB favor smooth spectra: the median of noise is nearer to a recording of noise than another noise is. So a
classifier of spectrograms with windows of a fraction of the length hears the sounds: what it recognizes, how
far the embedding of a resynthesized recording is from that of the recording, and how far the sets of embeddings
are from each other (Fréchet distance). It was not trained on the recordings of the held-out fold. Generated
clips have no recordings to be compared with one by one.
"""  # noqa: E501

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench_vocoder import Inverse, by_librosa, by_melray
from benchmarks.common import save_result
from models.gan_metrics import frechet_distance
from pipeline.audio.waveform import encode_wav
from pipeline.classifier.clip_audio import row_samples
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.gan.reference_classifier import embed_and_classify
from pipeline.gan.sampling import generate_mels, latents_from_seeds, roundtrip_mel
from pipeline.training.model_file import SavedClassifier, load_classifier, load_generator

ITERATIONS = (4, 8, 16, 32, 64, 128)


def hear(
    classifier: SavedClassifier, samples: Sequence[np.ndarray], labels: np.ndarray, sample_rate: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Return accuracy and confidence of a classifier on sounds, and their embeddings."""
    features = classifier.metadata.features
    mels = np.stack([roundtrip_mel(encode_wav(clip, sample_rate), features) for clip in samples])
    heard = embed_and_classify(classifier, mels, labels)
    accuracy = float((heard.predictions == labels).mean())
    return {"accuracy": accuracy, "confidence": float(heard.confidence.mean())}, heard.embeddings


def read_recordings(dataset: ShardDataset, fold: int) -> dict[int, np.ndarray]:
    """Return the samples of the original clips of a fold, by row."""
    table = dataset.table
    rows = np.flatnonzero((table["fold"] == fold) & (table["copy"] == 0)).tolist()
    found = (
        (row, row_samples(table.iloc[row], np.float32(dataset.mels[row]), dataset.features)) for row in rows
    )
    return {row: samples.astype(np.float32) for row, samples in found if samples is not None}


def generate_spectrograms(run: Path, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Return generated spectrograms in dB, the same number of each class, and their classes."""
    saved = load_generator(run)
    classes = len(saved.metadata.class_names)
    labels = np.repeat(np.arange(classes), per_class)
    latents = latents_from_seeds(saved.model, list(range(1, per_class + 1)) * classes)
    return generate_mels(saved.model, latents, labels, saved.metadata.features.mel), labels


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--fold", type=int, default=5)
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--gan", type=Path)
    parser.add_argument("--clips-per-class", type=int, default=30)
    parser.add_argument("--result", default="vocoder_heard", help="name of the result file")
    options = parser.parse_args()
    torch.set_num_threads(1)

    classifier, dataset = load_classifier(options.classifier), open_dataset(options.shards)
    features, recordings = dataset.features, read_recordings(dataset, options.fold)
    rows, rate = list(recordings), features.mel.sample_rate
    scores, reference = hear(classifier, list(recordings.values()), dataset.labels[rows], rate)
    result: dict[str, Any] = {"clips": len(rows), "recordings": scores}
    sets = {"recordings": (np.float32(dataset.mels[rows]), dataset.labels[rows])}
    if options.gan is not None:
        sets["generated"] = generate_spectrograms(options.gan, options.clips_per_class)
    implementations: dict[str, Inverse] = {
        "librosa": partial(by_librosa, features=features),
        **{
            f"melray, {number} iterations": partial(by_melray, features=features, iterations=number)
            for number in ITERATIONS
        },
    }
    for name, (mels, labels) in sets.items():
        for by, inverse in implementations.items():
            samples = [inverse(mel, number) for number, mel in enumerate(mels)]
            scores, embeddings = hear(classifier, samples, labels, rate)
            scores["frechet"] = frechet_distance(embeddings, reference)
            if name == "recordings":
                scores["distance"] = float(np.linalg.norm(embeddings - reference, axis=1).mean())
            result[f"{name}, {by}"] = scores
            print(name, by, scores, flush=True)
    save_result(options.result, result)


if __name__ == "__main__":
    main()

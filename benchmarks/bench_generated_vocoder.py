"""Trained vocoder against Griffin-Lim alone on spectrograms of a generator, scored at another resolution.

    melray extract          --data ESC-10 --out SHARDS --copies 0 --features.mel.n-mels 64 --features.mel.hop-length 1024 --fold-pattern '^(\\d)-' --group-pattern '^\\d-(\\d+)-'
    melray train-gan        --shards SHARDS --run GAN --fold 5
    melray train-vocoder    --shards SHARDS --run VOCODER --fold 5
    melray extract          --data ESC-10 --out FINE --features.mel.n-fft 512 --features.mel.hop-length 256 --features.mel.n-mels 64 --fold-pattern '^(\\d)-' --group-pattern '^\\d-(\\d+)-'
    melray train-classifier --shards FINE --run CLASSIFIER --fold 5
    python -m benchmarks.bench_generated_vocoder --gan GAN --vocoder VOCODER --classifier CLASSIFIER

A generator's spectrograms are smoother than those that a vocoder was trained on, and there is no recording to
compare their sounds with. So a classifier of spectrograms with windows of an eighth of the length hears them:
what it recognizes, and how far its embeddings are from those of recordings (Fréchet distance). None of the
models was trained on the held-out recordings, which are resynthesized as well.
"""  # noqa: E501

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import save_result
from models.gan_metrics import frechet_distance
from pipeline.audio.mel import log_mel
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import encode_wav
from pipeline.classifier.clip_audio import row_samples
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import embed_and_classify
from pipeline.gan.sampling import generate_mels, latents_from_seeds, roundtrip_mel
from pipeline.gan.vocoder.load import load_network
from pipeline.gan.vocoder.scores import mean_difference
from pipeline.training.model_file import SavedClassifier, load_classifier, load_generator
from pipeline.training.run import load_run_data


def hear(
    classifier: SavedClassifier, samples: Sequence[np.ndarray], labels: np.ndarray, sample_rate: int
) -> tuple[dict[str, float], np.ndarray]:
    """Return accuracy and confidence of a classifier on sounds, and their embeddings."""
    features = classifier.metadata.features
    mels = np.stack([roundtrip_mel(encode_wav(clip, sample_rate), features) for clip in samples])
    heard = embed_and_classify(classifier, mels, labels)
    accuracy = float((heard.predictions == labels).mean())
    return {"accuracy": accuracy, "confidence": float(heard.confidence.mean())}, heard.embeddings


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gan", type=Path, required=True)
    parser.add_argument("--vocoder", type=Path, required=True)
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--clips-per-class", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)

    generator, classifier = load_generator(options.gan), load_classifier(options.classifier)
    features = generator.metadata.features
    rate = features.mel.sample_rate
    vocoders = {
        "griffin_lim": Vocoder(features.mel),
        "vocoder": Vocoder(features.mel, network=load_network(options.vocoder, features.mel)),
    }
    _, dataset, split = load_run_data(options.gan, TrainGanConfig)
    found = {
        row: samples
        for row in split.held_out.tolist()
        if (
            samples := row_samples(
                dataset.table.iloc[row], np.asarray(dataset.mels[row], np.float32), features
            )
        )
        is not None
    }
    recordings = [samples.astype(np.float32) for samples in found.values()]
    classes = range(len(generator.metadata.class_names))
    generated_labels = np.repeat(classes, options.clips_per_class)
    seeds = list(range(1, options.clips_per_class + 1)) * len(classes)
    sets = {
        "recordings": (dataset.mels[list(found)].astype(np.float32), dataset.labels[list(found)]),
        "generated": (
            generate_mels(
                generator.model, latents_from_seeds(generator.model, seeds), generated_labels, features.mel
            ),
            generated_labels,
        ),
    }
    scores, reference = hear(classifier, recordings, sets["recordings"][1], rate)
    result: dict[str, Any] = {"clips": len(recordings), "recordings": scores}
    for name, (mels, labels) in sets.items():
        for by, vocoder in vocoders.items():
            samples = [
                vocoder(torch.from_numpy(mel)[None], features.num_samples, number)[0].numpy()
                for number, mel in enumerate(mels)
            ]
            scores, embeddings = hear(classifier, samples, labels, rate)
            errors = [
                mean_difference(log_mel(features.mel)(clip), mel)
                for clip, mel in zip(samples, mels, strict=True)
            ]
            scores |= {
                "frechet": frechet_distance(embeddings, reference),
                "mel_db": float(np.mean(errors)),
            }
            result[f"{name}, {by}"] = scores
            print(name, by, scores, flush=True)
    save_result("generated_vocoder", result)


if __name__ == "__main__":
    main()

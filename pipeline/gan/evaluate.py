"""Evaluation of a GAN by an independent reference classifier, after a round trip through 16-bit audio.

Generated clips are written to 16-bit files and go through extraction, as any recording does. Their
embeddings are compared with those of held-out real clips, on which neither GAN nor classifier was trained,
and with those of an untrained generator.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch

from models.confusion import count_confusions
from models.gan import Generator
from models.gan_metrics import nearest_neighbors
from pipeline.audio.features import FeatureConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.classifier.evaluate import CONFUSION_NAME, confusion_csv
from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import batch_slices, subsample_evenly
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.evaluation_metrics import (
    EvaluatedClips,
    SearchedClips,
    compute_metrics,
    describe_metrics,
)
from pipeline.gan.networks import create_networks
from pipeline.gan.real_variety import rows_of_all_classes
from pipeline.gan.reference_classifier import (
    embed_and_classify,
    load_other_classifier,
    load_reference_classifier,
)
from pipeline.gan.report import NearestPair
from pipeline.gan.report_inputs import audio_clips, write_run_report
from pipeline.gan.sampling import (
    generate_mels,
    generator_batch_size,
    latents_from_seeds,
    mels_to_samples,
    roundtrip_mel,
)
from pipeline.gan.selection_clips import scored_rows
from pipeline.gan.train_reference_classifier import get_reference_classifier
from pipeline.io.console import Progress, logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import write_text_atomically
from pipeline.io.storage import check_writable
from pipeline.training.model_file import SavedClassifier, load_generator
from pipeline.training.optim import set_float32_precision
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder

# Seed of the first evaluated clip; distinct from those of training samples and of typical users.
FIRST_SEED = 1_000_000
# Generated clips of each class by default; fewer if there are many classes.
CLIPS_PER_CLASS, MIN_CLIPS_PER_CLASS, MAX_GENERATED_CLIPS = 30, 2, 15_000
# Training clips that represent the training data, in total and of each class; held-out clips.
MAX_REAL_CLIPS, REAL_CLIPS_PER_CLASS, MAX_HELD_OUT_CLIPS = 2000, 4, 20_000
# Training clips among which copies are searched for, and those that are embedded at once.
MAX_SEARCHED_CLIPS, SEARCHED_AT_ONCE = 100_000, 1000
MAX_REPORTED_PAIRS = 6
# End of the message if the dataset of the run is not where it was, or not the same.
MOVED_HINT = "give the dataset of the run by --shards if it has been moved"


class ComparedClips(NamedTuple):
    """The sets of clips that an evaluation compares, each with the outputs of the classifier."""

    generated: EvaluatedClips
    untrained: EvaluatedClips
    """Of an untrained generator."""
    train: EvaluatedClips
    """Real clips that the generator was trained on."""
    held_out: EvaluatedClips
    """Other real clips."""
    searched: SearchedClips
    """Training clips among which copies are searched for."""


def evaluate_gan(
    run: Path,
    clips_per_class: int | None = None,
    out: Path | None = None,
    device: torch.device | None = None,
    reference_run: Path | None = None,
    shards: Path | None = None,
) -> dict[str, Any]:
    """Evaluate the generator of a run; write `evaluation.json`, `confusion.csv` and `report.html`.

    Args:
        run: folder of the run.
        clips_per_class: generated clips of each class (default: as `default_clips_per_class`).
        out: folder of the results; by default that of the run.
        device: device of the computation (default: CPU); also of the training of the evaluation classifier.
        reference_run: run of the classifier that scores (default: the evaluation classifier of the run).
        shards: folder of the run's dataset, if it has been moved since training.

    Returns:
        The metrics, as written.

    Raises:
        UserError: an unusable run, shards that are missing or changed since training, or a folder that cannot
            be written to.
    """
    device = device or torch.device("cpu")
    saved = load_generator(run)
    check_writable(out or run)
    config, dataset, split = load_run_data(run, TrainGanConfig, MOVED_HINT, shards)
    held_out_rows = subsample_evenly(scored_rows(dataset, split, config, run), MAX_HELD_OUT_CLIPS)
    if reference_run is None:
        classifier = get_reference_classifier(_with_classifier_folder(config, out), "evaluation", device)
    else:
        classifier = load_other_classifier(reference_run, saved.metadata, dataset.table.iloc[held_out_rows])
    classifier.model.to(device)
    if device.type == "cuda":  # training may have chosen another precision
        set_float32_precision("fp32")
    num_classes, features = len(dataset.class_names), saved.metadata.features
    # Generated clips are to be as real ones, not as augmented ones, which a GAN may be trained on as well.
    originals = split.train[dataset.table["copy"].to_numpy()[split.train] == 0]
    count = max(MAX_REAL_CLIPS, REAL_CLIPS_PER_CLASS * num_classes)
    train_rows = rows_of_all_classes(dataset.labels, originals, count, REAL_CLIPS_PER_CLASS)
    clips_per_class = clips_per_class or default_clips_per_class(num_classes)
    untrained_model, _ = create_networks(config, dataset, saved.model.mel_mean_M, saved.model.mel_std_M)
    models = saved.model.to(device), untrained_model.eval().to(device)
    generated, untrained = score_generators(models, features, clips_per_class, classifier)
    compared = ComparedClips(
        generated,
        untrained,
        classify_clips(classifier, dataset.mels[train_rows], dataset.labels[train_rows]),
        classify_clips(classifier, dataset.mels[held_out_rows], dataset.labels[held_out_rows]),
        embed_training_clips(classifier, dataset, split.train),
    )
    metrics = compute_metrics(*compared, dataset.class_names)
    write_results(run, out, compared, metrics, features, dataset, device, shards)
    print(f"{describe_metrics(metrics)}\nreport: {(out or run) / 'report.html'}", flush=True)
    return metrics


def _with_classifier_folder(config: TrainGanConfig, out: Path | None) -> TrainGanConfig:
    """Return the settings with `out` as the folder of the run, if the run's classifier cannot be there.

    The run may be one that others have published.
    """
    if out is None or load_reference_classifier(config.run, "evaluation") is not None:
        return config
    try:
        check_writable(config.run)
    except UserError as error:
        logger.info("the evaluation classifier of the run is kept in %s: %s", out, error)
        return config.model_copy(update={"run": out})
    return config


def score_generators(
    models: tuple[Generator, Generator],
    features: FeatureConfig,
    clips_per_class: int,
    classifier: SavedClassifier,
) -> Iterator[EvaluatedClips]:
    """Yield the clips of a trained and of an untrained generator with the outputs of the classifier."""
    descriptions = ("generating", "generating with an untrained generator")
    for model, description in zip(models, descriptions, strict=True):
        clips = generate_and_resynthesize(model, features, clips_per_class, description)
        yield classify_clips(classifier, *clips)


def classify_clips(classifier: SavedClassifier, mels: np.ndarray, labels: np.ndarray) -> EvaluatedClips:
    """Return clips, as of `generate_and_resynthesize`, with the outputs of the classifier."""
    return EvaluatedClips(mels, labels, *embed_and_classify(classifier, mels, labels))


def embed_training_clips(
    classifier: SavedClassifier, dataset: ShardDataset, train: np.ndarray
) -> SearchedClips:
    """Embed the training clips, rows `train` of a dataset; of very many, evenly spaced ones."""
    rows = subsample_evenly(train, MAX_SEARCHED_CLIPS)
    embeddings = []
    with Progress("embedding training clips", len(rows), "clips") as progress:
        for part in batch_slices(len(rows), SEARCHED_AT_ONCE):
            mels, labels = dataset.mels[rows[part]], dataset.labels[rows[part]]
            embeddings.append(embed_and_classify(classifier, mels, labels).embeddings)
            progress.add(len(labels))
        progress.finish()
    return SearchedClips(rows, dataset.labels[rows], np.concatenate(embeddings), len(train))


def write_results(
    run: Path,
    out: Path | None,
    compared: ComparedClips,
    metrics: dict[str, Any],
    features: FeatureConfig,
    dataset: ShardDataset,
    device: torch.device,
    shards: Path | None = None,
) -> None:
    """Write `evaluation.json`, `confusion.csv` and `report.html` to `out`, by default to the run.

    Raises:
        UserError: a full disk, or another problem of writing.
    """
    generated, folder, class_names = compared.generated, out or run, dataset.class_names
    unit = None if metrics["nearest"]["ratio"] is None else metrics["nearest"]["held_out"]
    vocoder = Vocoder(features.mel, device=device)
    pairs = nearest_pairs(generated, compared.searched, unit, features, dataset, vocoder)
    confusion = count_confusions(generated.labels, generated.predictions, len(class_names))
    with report_os_errors("writing to", folder):
        folder.mkdir(parents=True, exist_ok=True)
        RunFolder(folder).write_json("evaluation.json", metrics)
        write_text_atomically(folder / CONFUSION_NAME, confusion_csv(confusion, class_names))
        write_run_report(run, metrics, confusion, pairs, out, device, shards)


def default_clips_per_class(num_classes: int) -> int:
    """Return the generated clips of each class: 30, fewer of more than 500 classes, at least two."""
    return max(MIN_CLIPS_PER_CLASS, min(CLIPS_PER_CLASS, MAX_GENERATED_CLIPS // num_classes))


def generate_and_resynthesize(
    model: Generator, features: FeatureConfig, clips_per_class: int, description: str
) -> tuple[np.ndarray, np.ndarray]:
    """Generate clips on the model's device, convert them to 16-bit audio, extract their spectrograms again.

    Returns:
        Spectrograms in dB `[shape=(N, n_mels, num_frames)]` and their classes `[shape=(N,)]`.
    """
    torch.set_num_threads(1)
    device = model.mel_mean_M.device
    vocoder = Vocoder(features.mel, device=device)
    labels = np.repeat(np.arange(model.num_classes), clips_per_class)
    mels: list[np.ndarray] = []
    with Progress(description, len(labels), "clips") as progress:
        for batch in batch_slices(len(labels), generator_batch_size(model, device)):
            numbers = range(batch.start, batch.stop)
            latents = latents_from_seeds(model, [FIRST_SEED + number for number in numbers])
            generated = generate_mels(model, latents, labels[batch], features.mel)
            for samples in mels_to_samples(generated, features, vocoder, numbers, normalize=False):
                wav = io.BytesIO()
                soundfile.write(wav, samples, features.mel.sample_rate, format="WAV", subtype="PCM_16")
                mels.append(roundtrip_mel(wav.getvalue(), features))
                progress.add(1)
        progress.finish()
    return np.stack(mels), labels


def nearest_pairs(
    generated: EvaluatedClips,
    searched: SearchedClips,
    unit: float | None,
    features: FeatureConfig,
    dataset: ShardDataset,
    vocoder: Vocoder,
) -> list[NearestPair]:
    """Return the generated clips nearest to training clips, as pairs; distances are in units of `unit`.

    Without a unit, distances are None.
    """
    index, distances = nearest_neighbors(generated.embeddings, searched.embeddings)
    pairs = []
    for i in np.argsort(distances, kind="stable")[:MAX_REPORTED_PAIRS]:
        label, row = dataset.class_names[generated.labels[i]], searched.rows[index[i]]
        names, mels = [f"generated {label}", "training clip"], [generated.mels[i], dataset.mels[row]]
        clip, nearest = audio_clips(names, np.stack(mels), features, vocoder)
        pairs.append(NearestPair(label, clip, nearest, None if unit is None else float(distances[i] / unit)))
    return pairs

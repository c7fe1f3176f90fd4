"""Training of a GAN's reference classifiers.

With a single class there is nothing to classify. Then their weights stay random, and only the statistics of
their batch norms come from the clips: embeddings of random networks distinguish sets of clips as well (Naeem
et al. 2020). Class accuracies are left out.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, ClassVar

import torch

from models.classifier import ClassifierConfig
from models.config import diff_settings, with_missing
from models.settings import SpecAugmentConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.classifier.train import begin_run, train_concurrently, train_in_process
from pipeline.data.identify import identify
from pipeline.data.shard_manifest import open_shards
from pipeline.data.split_config import SplitConfig
from pipeline.distributed.resource_config import ResourceConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import Purpose, load_reference_classifier
from pipeline.io.console import logger
from pipeline.io.errors import report_os_errors
from pipeline.io.storage import remove_tree
from pipeline.io.text import plural
from pipeline.training.launch import fit
from pipeline.training.model_file import SavedClassifier, load_classifier
from pipeline.training.progress import TrainingProgress
from pipeline.training.run import finish_run
from pipeline.training.run_folder import RunFolder

# Different architectures and regularization, so that selection and evaluation share only the clips. They see
# the padding of real clips, as a generator must learn it too.
NETWORKS: dict[Purpose, ClassifierConfig] = {
    "selection": ClassifierConfig(
        channels=(16, 32, 64, 128),
        convs_per_block=1,
        embedding_dim=128,
        dropout=0.2,
        padding="silence",
        modulation=False,
        texture=False,
    ),
    "evaluation": ClassifierConfig(
        channels=(24, 48, 96, 128),
        convs_per_block=1,
        embedding_dim=128,
        dropout=0.3,
        padding="silence",
        modulation=False,
        texture=False,
    ),
}
# Maximum epochs of a small dataset. A large one needs fewer to be classified as well: each epoch has more
# steps.
EPOCHS, MIN_EPOCHS = 40, 10
# Settings that decide which clips the GAN and its classifiers are trained on.
SPLIT_SETTINGS = set(SplitConfig.model_fields) - {"augmentation_strength"}
# Rows to train on in all epochs, beyond which the number of epochs is reduced.
MAX_TRAINING_ROWS = 200_000


class RandomNetworkConfig(TrainClassifierConfig):
    """Settings of a network of one class: its loss is 0, so its weights stay as they are."""

    min_classes: ClassVar[int] = 1


def reference_classifier_config(config: TrainGanConfig, purpose: Purpose) -> TrainClassifierConfig:
    """Return the configuration of a reference classifier, whose run is `RUN/reference_classifiers/<purpose>`.

    It is trained on the GAN's training clips with all their augmented copies, until it no longer improves.
    """
    manifest = open_shards(config.shards)
    settings: dict[str, Any] = config.subset(SplitConfig).model_dump() | {
        "augmentation_strength": 1.0,
        "shards": config.shards,
        "run": config.run / "reference_classifiers" / purpose,
        "model": NETWORKS[purpose],
        # Clips are zero-padded at the end: a large time shift would produce clips unlike any real one.
        "spec_augment": SpecAugmentConfig(roll=0.1, time_stretch=0.0, freq_shift=0.0),
        "keep": "last",
    }
    if len(manifest.class_names) == 1:
        # The mean of equal weights is of use for its last step, which computes the batch norm statistics.
        return RandomNetworkConfig(**settings, epochs=2, swa_fraction=0.5, weight_decay=0.0)
    # By the data alone: generators of different runs are evaluated by classifiers of the same training.
    epochs = min(EPOCHS, max(MIN_EPOCHS, MAX_TRAINING_ROWS // max(manifest.rows, 1)))
    return TrainClassifierConfig(
        **settings,
        epochs=epochs,
        learning_rate=4e-3,
        schedule="plateau",
        ema_decay=0.98,
        weight_decay=0.05 if purpose == "selection" else 0.1,
    )


def train_selection_classifier(config: TrainGanConfig) -> None:
    """Train the selection classifier on the cluster, or resume its training; no-op if it is complete.

    Raises:
        UserError: as `train-classifier` does.
    """
    delete_selection_classifier_of_other_clips(config)
    classifier_config = reference_classifier_config(config, "selection")
    if load_reference_classifier(config.run, "selection") is not None or begin_run(classifier_config):
        return
    if config.data_placement == "partitioned" and config.workers > 1:
        _train_partitioned(config, classifier_config)
        return
    if isinstance(classifier_config, RandomNetworkConfig):
        logger.info(
            "single class: generated clips are compared with real ones by a network with random weights"
        )
    train_concurrently(
        {"selection classifier": classifier_config},
        config.subset(ResourceConfig).model_copy(update={"cpus_per_worker": None}),
        1,
    )


def delete_selection_classifier_of_other_clips(config: TrainGanConfig) -> None:
    """Delete a selection classifier of another dataset or split: it may have been trained on held-out clips.

    A run that fails before its first epoch leaves it, and may be run again with other settings.

    Raises:
        UserError: a damaged record, or the folder cannot be deleted.
    """
    wanted = reference_classifier_config(config, "selection")
    recorded = RunFolder(wanted.run).read_config(("config",))
    if recorded is None:
        return
    settings = with_missing(recorded["config"], wanted.default_settings())
    split = {name: value for name, value in wanted.to_dict().items() if name in SPLIT_SETTINGS}
    if not diff_settings(settings, split, "") and identify(wanted.shards).is_recorded(recorded):
        return
    logger.info("deleting the selection classifier in %s, as it was trained on other clips", wanted.run)
    with report_os_errors("deleting", wanted.run):
        remove_tree(wanted.run)


def _train_partitioned(config: TrainGanConfig, classifier_config: TrainClassifierConfig) -> None:
    """Train a reference classifier by the workers of the GAN, each node on its share of the rows."""
    logger.info("training the selection classifier on %s", plural(config.workers, "worker"))
    start_time, run = time.monotonic(), RunFolder(classifier_config.run)
    settings = classifier_config.model_copy(update={"data_placement": "partitioned"})
    loop = partial(train_loop, owner=run.acquire())
    result = fit(loop, settings, config.subset(ResourceConfig), run.path)
    finish_run(settings, result, time.monotonic() - start_time)


def get_reference_classifier(
    config: TrainGanConfig, purpose: Purpose, device: torch.device | None = None
) -> SavedClassifier:
    """Load a reference classifier; if it is missing, train it in this process first, or resume its training.

    Args:
        config: settings of the GAN's run.
        purpose: which of the two classifiers.
        device: device of the training (default: CPU); the loaded classifier is on the CPU.

    Raises:
        UserError: as `train-classifier` does.
    """
    saved = load_reference_classifier(config.run, purpose)
    if saved is not None:
        logger.info("using the trained %s classifier of the run", purpose)
        return saved
    classifier_config = reference_classifier_config(config, purpose)
    if begin_run(classifier_config) is None:
        run = RunFolder(classifier_config.run)
        logger.info(
            "training the %s classifier for at most %d epochs in %s, from epoch %d; once per run, and "
            "resumed if interrupted",
            purpose,
            classifier_config.epochs,
            run.path,
            len(run.read_history()) + 1,
        )
        with TrainingProgress({f"{purpose} classifier": run}):
            train_in_process(classifier_config, run.acquire(), device)
    return load_classifier(classifier_config.run)

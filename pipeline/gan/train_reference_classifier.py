"""Training of a GAN's reference classifiers."""

from __future__ import annotations

from models.batch_augment import SpecAugmentConfig
from models.classifier import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import begin_run, train_concurrently, train_in_process
from pipeline.data.split import SplitConfig
from pipeline.distributed.resources import ResourceConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import Purpose, load_reference_classifier
from pipeline.io.console import logger
from pipeline.training.model_file import SavedClassifier, load_classifier

# Different architectures and regularization, so that selection and evaluation share only the clips.
NETWORKS: dict[Purpose, ClassifierConfig] = {
    "selection": ClassifierConfig(
        channels=(16, 32, 64, 128), convs_per_block=1, embedding_dim=128, dropout=0.2
    ),
    "evaluation": ClassifierConfig(
        channels=(24, 48, 96, 128), convs_per_block=1, embedding_dim=128, dropout=0.3
    ),
}
EPOCHS = 40


def reference_classifier_config(config: TrainGanConfig, purpose: Purpose) -> TrainClassifierConfig:
    """Return the configuration of a reference classifier, whose run is `RUN/reference_classifiers/<purpose>`.

    It is trained on the GAN's training clips with all their augmented copies.
    """
    split = config.subset(SplitConfig).model_dump() | {"augmentation_strength": 1.0}
    return TrainClassifierConfig(
        **split,
        shards=config.shards,
        run=config.run / "reference_classifiers" / purpose,
        model=NETWORKS[purpose],
        # Clips are zero-padded at the end: a large time shift would produce clips unlike any real one.
        spec_augment=SpecAugmentConfig(roll=0.1),
        epochs=EPOCHS,
        patience=EPOCHS,
        keep="last",
        learning_rate=4e-3,
        ema_decay=0.98,
        weight_decay=0.05 if purpose == "selection" else 0.1,
    )


def train_selection_classifier(config: TrainGanConfig) -> None:
    """Train the selection classifier on the cluster, or resume its training; no-op if it is complete.

    Raises:
        UserError: as `train-classifier` does.
    """
    classifier_config = reference_classifier_config(config, "selection")
    if load_reference_classifier(config.run, "selection") is None and begin_run(classifier_config) is None:
        train_concurrently(
            {"selection classifier": classifier_config},
            config.subset(ResourceConfig).model_copy(update={"cpus_per_worker": None}),
            1,
        )


def get_reference_classifier(config: TrainGanConfig, purpose: Purpose) -> SavedClassifier:
    """Load a reference classifier; train it in this process first if it is missing.

    Raises:
        UserError: as `train-classifier` does.
    """
    classifier_config = reference_classifier_config(config, purpose)
    if load_reference_classifier(config.run, purpose) is None and begin_run(classifier_config) is None:
        logger.info("training the %s classifier in %s", purpose, classifier_config.run)
        train_in_process(classifier_config)
    return load_classifier(classifier_config.run)

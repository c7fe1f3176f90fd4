"""Training of the reference classifiers of a GAN."""

from __future__ import annotations

from models.batch_augment import SpecAugmentConfig
from models.classifier import ClassifierConfig
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import begin_run, train_concurrently, train_in_process
from pipeline.data.split import SplitConfig
from pipeline.distributed.resources import ResourceConfig
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.reference_classifier import Purpose, load_reference_classifier
from pipeline.training.model_file import SavedClassifier, load_classifier

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
    """The training of a judge, in `RUN/judge/<purpose>`: on the clips that the GAN learns from, with all their copies."""
    split = config.subset(SplitConfig).model_dump() | {"augmentation_strength": 1.0}
    return TrainClassifierConfig(
        **split,
        shards=config.shards,
        run=config.run / "reference_classifiers" / purpose,
        model=NETWORKS[purpose],
        # Whatever stands at the end of a clip is silence: a wide turn would teach a judge what no clip looks like.
        spec_augment=SpecAugmentConfig(roll=0.1),
        epochs=EPOCHS,
        patience=EPOCHS,
        keep="last",
        learning_rate=4e-3,
        ema_decay=0.98,
        weight_decay=0.05 if purpose == "selection" else 0.1,
    )


def train_selection_classifier(config: TrainGanConfig) -> None:
    """Trains the judge that a training needs on the cluster, or what is missing of it.

    Raises:
        UserError: as a training does.
    """
    judge = reference_classifier_config(config, "selection")
    if load_reference_classifier(config.run, "selection") is None and begin_run(judge) is None:
        train_concurrently(
            {"the judge": judge},
            config.subset(ResourceConfig).model_copy(update={"cpus_per_worker": None}),
            1,
        )


def get_reference_classifier(config: TrainGanConfig, purpose: Purpose) -> SavedClassifier:
    """A judge, trained in this process where it is missing.

    Raises:
        UserError: as a training does.
    """
    judge = reference_classifier_config(config, purpose)
    if load_reference_classifier(config.run, purpose) is None and begin_run(judge) is None:
        print(f"training the {purpose} judge: {judge.run}", flush=True)
        train_in_process(judge)
    return load_classifier(judge.run)

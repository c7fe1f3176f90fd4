"""A trained generator, which several modules use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.gan import train_reference_classifier
from pipeline.gan.loop import train_loop
from pipeline.gan.train_reference_classifier import get_reference_classifier
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import gan_config


@pytest.fixture(scope="session")
def gan(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a GAN for a hundred steps, and its reference classifier."""
    torch.set_num_threads(1)
    config = gan_config(
        shards,
        tmp_path_factory.mktemp("gan"),
        epochs=1,
        epoch_steps=100,
        select_best=True,
        penalty_weight=1.0,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_reference_classifier, "EPOCHS", 8)
        get_reference_classifier(config, "selection")
    train_loop(config, SINGLE_WORKER)
    return config.run

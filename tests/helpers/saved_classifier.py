"""Runs of small classifiers, saved without a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from models.classifier import Classifier, ClassifierConfig
from pipeline.training.model_file import ClassifierMetadata, save_model
from tests.helpers.sounds import SMALL_FEATURES

NETWORK = ClassifierConfig(channels=(8,), convs_per_block=1, embedding_dim=8)
NAMES = ("noise", "whale")
COUNTS = {"noise": 3, "whale": 1}


def small_network(num_classes: int) -> Classifier:
    """Return an untrained network for spectrograms of `SMALL_FEATURES`, always the same."""
    torch.manual_seed(0)
    return Classifier(NETWORK, SMALL_FEATURES.mel.n_mels, num_classes)


def save_run(run: Path, model: Classifier, **metadata: Any) -> Path:
    """Save a classifier as a run, whose folder is created; return it."""
    values = {"features": SMALL_FEATURES, "training": {}} | metadata
    described = ClassifierMetadata(model=model.config, **values)
    run.mkdir(parents=True, exist_ok=True)
    save_model(run, model, described)
    (run / "config.json").write_text(
        json.dumps({"format_version": described.format_version}), encoding="utf-8"
    )
    return run


def save_classifier(run: Path, names: tuple[str, ...] = NAMES, scale: float = 1.0, **training: Any) -> Path:
    """Save an untrained classifier, with weights multiplied by `scale`."""
    model = small_network(len(names))
    for parameter in model.parameters():
        parameter.data.mul_(scale)
    return save_run(run, model, class_names=names, training={"class_counts": COUNTS} | training)

"""Runs with networks of random weights, and programs that use exported models without melray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.classifier import Classifier, ClassifierConfig
from pipeline.audio.features import FeatureConfig, spectrogram
from pipeline.training.model_file import ClassifierMetadata, save_model
from tests.helpers.audio_formats import noise, sine

# Imports of melray fail, also where it is installed.
_BLOCK = (
    "import sys; sys.modules.update(dict.fromkeys(('models', 'pipeline', 'tune', 'cluster', 'melray')))\n"
)


def save_random_classifier(
    run: Path, features: FeatureConfig, seed: int = 0, config: ClassifierConfig | None = None, **metadata: Any
) -> Path:
    """Write the run of a classifier of four classes whose predictions depend on the sound; return it."""
    torch.manual_seed(seed)
    config = config or ClassifierConfig(channels=(8, 16), convs_per_block=1, embedding_dim=16)
    settings: dict[str, Any] = {"class_names": ("a", "b", "c", "ä"), "training": {}} | metadata
    model = Classifier(config, features.mel.n_mels, len(settings["class_names"])).eval()
    model.set_statistics(torch.full((features.mel.n_mels,), -40.0), torch.full((features.mel.n_mels,), 15.0))
    settings["temperature"] = _center_predictions(model, features)
    run.mkdir(parents=True)
    save_model(run, model, ClassifierMetadata(features=features, model=config, **settings))
    return run


@torch.no_grad()
def _center_predictions(model: Classifier, features: FeatureConfig) -> float:
    """Change the bias so that sounds are distinguished; return a temperature for logits of about 1."""
    sounds = [
        level * sine(100 * 2**i, features.seconds, features.mel.sample_rate)
        + noise(features.seconds, features.mel.sample_rate, level=0.001 * 4**i)
        for i, level in enumerate((1.0, 0.0, 0.01, 0.0, 0.1))
    ]
    mels = np.stack([spectrogram(samples, features) for samples in sounds]).astype(np.float32)
    logits = model(torch.from_numpy(mels))
    model.head[-1].bias -= logits.mean(dim=0)
    return float(logits.std(dim=0).mean())


def run_without_melray(code: str, folder: Path) -> str:
    """Run Python code, which cannot import melray, in another folder; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", _BLOCK + code]
    return subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def run_torch_program(path: Path, inputs: list[np.ndarray], folder: Path) -> tuple[list[np.ndarray], dict]:
    """Return the outputs of a program of `torch.export` and its metadata, without melray."""
    np.savez(folder / "inputs.npz", *inputs)
    code = f"""
import json, numpy, torch
files = {{"metadata.json": ""}}
model = torch.export.load({str(path)!r}, extra_files=files).module()
inputs = numpy.load("inputs.npz")
outputs = [model(torch.from_numpy(inputs[name])).numpy() for name in inputs.files]
numpy.savez("outputs.npz", *outputs)
print(json.dumps(files))
"""
    files = json.loads(run_without_melray(code, folder))
    outputs = np.load(folder / "outputs.npz")
    return [outputs[name] for name in outputs.files], json.loads(files["metadata.json"])

"""Training steps on a GPU: against float32 on the CPU, as CUDA graphs, after a resume, and with NCCL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from models.classifier import ClassifierConfig
from models.gan import GanConfig
from models.settings import SpecAugmentConfig
from pipeline.classifier import loop as classifier_loop
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.gan import loop as gan_loop
from pipeline.gan import step as gan_step
from pipeline.gan.config import TrainGanConfig
from pipeline.training.optim import optimizer_tensors
from pipeline.training.world import World
from tests.helpers.gpu import CPU, DEVICE, checkpoint_tensors, relative_difference, select, train

EPOCHS = 4
FAMILIES = ("classifier", "gan")


def training(family: str, shards: Path, run: Path, **overrides: Any) -> tuple[ModuleType, Any]:
    """Return loop and settings of a training run without dropout: five steps in each of four epochs."""
    settings: dict[str, Any] = {
        "shards": shards,
        "run": run,
        "val_fraction": 0.0,
        "precision": "fp32",
        "epochs": EPOCHS,
        "batch_size": 16,
    }
    if family == "classifier":
        small = {} if DEVICE.type == "cuda" else {"channels": (4, 8), "convs_per_block": 1}
        settings |= {"model": ClassifierConfig(dropout=0.0, **small), "warmup_epochs": 0.0}
        return classifier_loop, TrainClassifierConfig(**settings | overrides)
    small = {} if DEVICE.type == "cuda" else {"channels": (4, 8)}
    settings |= {"gan": GanConfig(**small)}
    settings |= {"epoch_steps": 5, "select_best": False, "samples_per_class": 1, "sample_every": EPOCHS}
    # Low, since a GAN amplifies the rounding of sums whose order differs from run to run on a GPU.
    settings |= {"generator_lr": 1e-4, "discriminator_lr": 1e-4}
    return gan_loop, TrainGanConfig(**settings | overrides)


def test_classifier_step_equals_that_of_cpu(random_shards: Path, tmp_path: Path) -> None:
    tensors = []
    for device in (CPU, DEVICE):
        loop, config = training(
            "classifier", random_shards, tmp_path / f"run-{len(tensors)}", epochs=1, batch_size=80
        )
        train(loop, config, device)
        tensors.append(checkpoint_tensors(config.run))
    expected, actual = tensors
    # The first moment of Adam is a multiple of the gradient.
    gradients = [select(values, "optimizer/", "/exp_avg") for values in (actual, expected)]
    # On this data float32 on a CPU differs by 0.04 from float64: rounding decides which of nearly equal
    # values a max pool passes on.
    assert relative_difference(*gradients) < 0.06
    # In its first step Adam moves each weight by the learning rate, in a direction that depends on rounding
    # where the gradient is almost zero.
    for group in ("model/", "ema/"):
        assert relative_difference(select(actual, group), select(expected, group)) < 5e-3


def test_gan_step_equals_that_of_cpu(random_shards: Path, tmp_path: Path) -> None:
    _, config = training("gan", random_shards, tmp_path / "run", gpu_data_fraction=0.0)
    reference, state = (gan_loop.prepare(config, World(0, 1, device)) for device in (CPU, DEVICE))
    # The inputs of the CPU, with its latents: a GPU samples others.
    plan = gan_step.plan_step(reference, reference.split.train[:16], 0)
    inputs = {
        name: value.to(DEVICE) if isinstance(value, Tensor) else value for name, value in plan.inputs.items()
    }
    expected_metrics = gan_step.train_step(reference, plan)
    metrics = gan_step.train_step(state, replace(plan, inputs=inputs))
    assert torch.allclose(metrics.cpu(), expected_metrics, rtol=1e-2, atol=1e-3)
    for name, tolerance in (("discriminator", 1e-3), ("generator", 2e-2)):
        # Without momentum the first moment of Adam is the gradient.
        actual, expected = (
            select(optimizer_tensors(getattr(x, name), x.optimizers[name]), "", "/exp_avg")
            for x in (state, reference)
        )
        assert relative_difference(actual, expected) < tolerance
        weights = [dict(getattr(x, name).named_parameters()) for x in (state, reference)]
        assert relative_difference(*weights) < 5e-3


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs CUDA graphs")
@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("classifier", {}),
        ("classifier", {"spec_augment": SpecAugmentConfig(reverb=0.5, noise=0.5)}),
        ("classifier", {"model": ClassifierConfig(dropout=0.0, texture=True)}),
        ("classifier", {"multi_label": True, "class_weights": True, "focal_gamma": 2.0}),
        ("gan", {"ada": {"adapt": True, "p": 0.5}}),
    ],
    ids=["classifier", "rooms and noise", "texture", "multi-label", "gan"],
)
def test_graph_steps_equal_eager_steps(
    family: str,
    overrides: dict[str, Any],
    random_shards: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    histories, tensors = [], []
    for cuda_graphs in (False, True):
        run = tmp_path / f"graphs-{cuda_graphs}"
        loop, config = training(family, random_shards, run, cuda_graphs=cuda_graphs, **overrides)
        with caplog.at_level("WARNING", logger="melray"):
            histories.append(train(loop, config, DEVICE))
        tensors.append(checkpoint_tensors(run))
    assert "without CUDA graphs" not in caplog.text
    name = "train_loss" if family == "classifier" else "discriminator_loss"
    eager, graphs = ([metrics[name] for metrics in history] for history in histories)
    # Later the difference of two runs grows, also of equal ones.
    assert graphs[: EPOCHS // 2] == pytest.approx(eager[: EPOCHS // 2], rel=0.02)
    assert graphs == pytest.approx(eager, rel=0.2)
    prefix = "model/" if family == "classifier" else "generator/"
    assert relative_difference(select(tensors[1], prefix), select(tensors[0], prefix)) < 0.05


@pytest.mark.parametrize("family", FAMILIES)
def test_resumed_run_equals_undisturbed_run(family: str, random_shards: Path, tmp_path: Path) -> None:
    loop, undisturbed = training(family, random_shards, tmp_path / "undisturbed")
    history = train(loop, undisturbed, DEVICE)
    _, config = training(family, random_shards, tmp_path / "resumed")
    config.run.mkdir()
    epochs = loop.train_epochs(config, World(0, 1, DEVICE))
    for _ in range(EPOCHS // 2):
        next(epochs)
    epochs.close()
    resumed = train(loop, config, DEVICE)
    name = "train_loss" if family == "classifier" else "discriminator_loss"
    expected, actual = ([metrics[name] for metrics in epochs] for epochs in (history, resumed))
    # Later the difference of two runs grows, also of equal ones.
    assert actual[: EPOCHS // 2 + 1] == pytest.approx(expected[: EPOCHS // 2 + 1], rel=0.05)
    assert actual == pytest.approx(expected, rel=0.2)
    prefix = "model/" if family == "classifier" else "generator/"
    weights = [select(checkpoint_tensors(run.run), prefix) for run in (config, undisturbed)]
    assert relative_difference(*weights) < 0.05


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    """Create a process group of one rank, with NCCL for tensors on the GPU."""
    backend = "cpu:gloo,cuda:nccl" if DEVICE.type == "cuda" else "cpu:gloo"
    dist.init_process_group(backend, init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("family", FAMILIES)
def test_collectives_of_training_work_with_nccl(
    family: str, random_shards: Path, tmp_path: Path, one_rank: None
) -> None:
    # Rank 0 of two, of which the other contributes nothing: all collectives of several workers are called.
    loop, config = training(family, random_shards, tmp_path / "run", val_fraction=0.2)
    history = train(loop, config, DEVICE, size=2)
    assert len(history) == EPOCHS
    assert all(math.isfinite(value) for metrics in history for value in metrics.values())

"""Training on a GPU, against bare loops and the limits of the card: `python -m benchmarks.gpu_training FILE`.

For the classifier and the GAN, at batch sizes of 64 and 256: samples per second against a bare loop with rows
and labels on the GPU, eager and as a CUDA graph, and the share of time in which the GPU is busy. At a batch
that fills the GPU: the share of the card's FLOP/s and bandwidth, where operations and bytes are those of the
bare step, whose kernels are not fused. Also steps per second with rows that are streamed from the host, and
without CUDA graphs.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import summarize, summarize_ratios
from benchmarks.gpu_bare import BareLoop, bare_classifier, bare_gan, graphed
from benchmarks.gpu_data import write_random_shards
from benchmarks.gpu_measure import busy_seconds, device_limits, device_seconds, step_cost
from benchmarks.gpu_rows import PartResult, measured, part_arguments, run_attempts
from models.classifier import ClassifierConfig
from models.gan import GanConfig
from pipeline.classifier import loop as classifier_loop
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.gan import loop as gan_loop
from pipeline.gan.config import TrainGanConfig
from pipeline.training.log import RunLog
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World

TRAINING_GOAL, BUSY_GOAL, LIMIT_GOAL = 0.9, 0.9, 0.5


@dataclass(frozen=True)
class Setup:
    """Data, device, and size of the measurements."""

    shards: Path
    dataset: ShardDataset
    device: torch.device
    folder: Path
    quick: bool

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        return (8,) if self.quick else (64, 256)

    @property
    def steps(self) -> int:
        return 3 if self.quick else 60

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 3


@dataclass(frozen=True)
class Family:
    """How a family of models is trained by melray and by a bare loop."""

    name: str
    config: Callable[[Setup, int], Any]
    """Settings for a batch size."""
    loop: Any
    """Module with `prepare` and `train_epoch`."""
    bare: Callable[..., BareLoop]
    variants: Callable[[Any], int]
    """Number of steps of which one differs, and needs its own CUDA graph."""
    full_batch: int
    """Batch size that fills a GPU."""


def classifier_config(setup: Setup, batch_size: int) -> TrainClassifierConfig:
    """Return the defaults; a tiny network for a quick run."""
    small = {"model": ClassifierConfig(channels=(4, 8), convs_per_block=1)} if setup.quick else {}
    return TrainClassifierConfig(
        shards=setup.shards, run=setup.folder / "run", val_fraction=0.0, batch_size=batch_size, **small
    )


def gan_config(setup: Setup, batch_size: int) -> TrainGanConfig:
    """Return the defaults without the reference classifier; tiny networks for a quick run."""
    small = {"gan": GanConfig(channels=(4, 8), latent_dim=4, style_dim=8)} if setup.quick else {}
    return TrainGanConfig(
        shards=setup.shards,
        run=setup.folder / "run",
        val_fraction=0.0,
        batch_size=batch_size,
        epoch_steps=1,
        select_best=False,
        **small,
    )


FAMILIES = (
    Family("classifier", classifier_config, classifier_loop, bare_classifier, lambda config: 1, 1024),
    Family("GAN", gan_config, gan_loop, bare_gan, lambda config: config.penalty_interval, 512),
)


class Trainer:
    """melray's training loop of one worker, without validation, checkpoints and log."""

    def __init__(self, family: Family, setup: Setup, config: Any):
        self._family, self._batch_size = family, config.batch_size
        self.state = family.loop.prepare(config, World(0, 1, setup.device))
        self._rows = self.state.split.train
        self._log = RunLog(RunFolder(config.run), False, [], config.epochs)

    def run(self, steps: int) -> None:
        """Train for an epoch of a number of steps."""
        rows = np.resize(self._rows, steps * self._batch_size)
        self.state.split = replace(self.state.split, train=rows)
        self._family.loop.train_epoch(self.state, self._log)
        self.state.epoch += 1


def compare(family: Family, setup: Setup, batch_size: int, result: PartResult) -> None:
    """Measure melray and the bare loops in alternating rounds, and the share of time the GPU is busy."""
    config, name = family.config(setup, batch_size), f"{family.name}, batch {batch_size}"
    trainer = Trainer(family, setup, config)
    runs: dict[str, Callable[[int], None]] = {
        "melray": trainer.run,
        "eager": family.bare(config, setup.dataset, setup.device).run,
    }
    if setup.device.type == "cuda":
        with result.attempt(f"{name}: bare CUDA graph"):
            capturable = family.bare(config, setup.dataset, setup.device, True)
            runs["graph"] = graphed(capturable, family.variants(config)).run
    for run in runs.values():
        run(max(3, setup.steps // 4))
    rates: dict[str, list[float]] = {key: [] for key in runs}
    for _ in range(setup.rounds):
        for key, run in runs.items():
            seconds = device_seconds(lambda: run(setup.steps), setup.device)  # noqa: B023
            rates[key].append(setup.steps * batch_size / seconds)
    for key, values in rates.items():
        result.add(measured(f"{name}: {key}", statistics.median(values), "samples/s"), **summarize(values))
    for key in rates.keys() - {"melray"}:
        ratio = summarize_ratios(rates["melray"], rates[key])
        goal = TRAINING_GOAL if key == "eager" else None
        result.add(measured(f"{name}: melray / bare {key}", ratio["median"], goal=goal), **ratio)
    steps = max(1, setup.steps // 4)
    busy = busy_seconds(lambda: trainer.run(steps), setup.device) / steps
    # Against the time without the profiler, which slows the host down.
    share = busy * statistics.median(rates["melray"]) / batch_size
    result.add(measured(f"{name}: GPU busy", share, goal=BUSY_GOAL), busy_seconds_per_step=busy)


def compare_settings(family: Family, setup: Setup, result: PartResult) -> None:
    """Measure steps per second with settings that change only the speed, and with the defaults."""
    batch_size = setup.batch_sizes[0]
    settings: dict[str, dict[str, Any]] = {
        "rows on the GPU, CUDA graphs": {},
        "rows streamed from the host": {"gpu_data_fraction": 0.0},
        "without CUDA graphs": {"cuda_graphs": False},
    }
    for key, overrides in settings.items():
        trainer = Trainer(family, setup, family.config(setup, batch_size).model_copy(update=overrides))
        trainer.run(max(3, setup.steps // 4))
        seconds = device_seconds(lambda: trainer.run(setup.steps), setup.device)  # noqa: B023
        result.add(measured(f"{family.name}, batch {batch_size}: {key}", setup.steps / seconds, "steps/s"))


def bare_cost(family: Family, setup: Setup, config: Any) -> dict[str, float]:
    """Return the cost of a step of the bare loop, without gradient penalty."""
    bare = family.bare(config, setup.dataset, setup.device)
    bare.step(1)
    return step_cost(lambda: bare.step(1))


def against_limits(family: Family, setup: Setup, limits: dict[str, float], result: PartResult) -> None:
    """Measure the share of the card's FLOP/s and bandwidth at a batch that fills it."""
    batch_size = 8 if setup.quick else family.full_batch
    config, name = family.config(setup, batch_size), f"{family.name}, batch {batch_size}"
    cost = bare_cost(family, setup, config)
    trainer, steps = Trainer(family, setup, config), max(3, setup.steps // 6)
    trainer.run(steps)
    seconds = device_seconds(lambda: trainer.run(steps), setup.device) / steps
    shares = {
        "FLOP/s": cost["flops"] / seconds / limits["flops"],
        "bandwidth": cost["bytes"] / seconds / limits["bandwidth"],
    }
    result.add(measured(f"{name}: melray", batch_size / seconds, "samples/s"), **cost)
    for key, share in shares.items():
        result.add(measured(f"{name}: share of the card's {key}", share))
    result.add(
        measured(f"{name}: share of the nearer limit", max(shares.values()), goal=LIMIT_GOAL), **shares
    )


def main() -> None:
    arguments = part_arguments()
    device, result = torch.device(arguments.device), PartResult(arguments.file)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_random_shards(folder / "shards", 32 if arguments.quick else 2560)
        setup = Setup(shards, open_dataset(shards), device, folder, arguments.quick)
        limits: dict[str, float] = {}

        def measure_limits() -> None:
            limits.update(device_limits(device))
            result.add(measured("card: bfloat16 matrix product", limits["flops"] / 1e12, "TFLOP/s"))
            result.add(measured("card: copy, read and written", limits["bandwidth"] / 1e9, "GB/s"))

        actions: dict[str, Callable[[], None]] = {"limits of the card": measure_limits}
        for family in FAMILIES:
            for size in setup.batch_sizes:
                actions[f"{family.name}, batch {size}"] = lambda f=family, s=size: compare(  # type: ignore[misc]
                    f, setup, s, result
                )
            actions[f"{family.name}, settings"] = lambda f=family: compare_settings(  # type: ignore[misc]
                f, setup, result
            )
            actions[f"{family.name}, full batch"] = lambda f=family: against_limits(  # type: ignore[misc]
                f, setup, limits, result
            )
        run_attempts(result, actions)


if __name__ == "__main__":
    main()

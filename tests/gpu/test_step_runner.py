"""CUDA graphs of steps: the same results as steps that run as written, also where recording fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.training.step_inputs import pack, prefetch, prepare_inputs
from pipeline.training.step_runner import WARMUP_STEPS, StepPart, StepRunner
from tests.helpers.gpu import DEVICE

pytestmark = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs CUDA graphs")


class Sum:
    """Step of two parts that adds its inputs, and random numbers, to a total."""

    def __init__(self, reads_back: bool = False):
        self.total = torch.zeros((), device=DEVICE)
        self.noise = torch.zeros((), device=DEVICE)
        self.reductions = 0
        self._reads_back = reads_back
        self.parts = [StepPart(self._square, self._count), StepPart(self._add)]

    def _square(self, inputs: Any, results: dict[str, Any]) -> None:
        results["squares"] = inputs["values"].square()

    def _count(self) -> None:
        self.reductions += 1

    def _add(self, inputs: Any, results: dict[str, Any]) -> None:
        if self._reads_back:
            float(results["squares"].sum())
        self.total += results["squares"].sum() * inputs["scale"]
        self.noise += torch.rand((), device=DEVICE)


def run_all(step: Sum, runner: StepRunner, sizes: list[int]) -> tuple[float, float]:
    torch.manual_seed(3)
    for number, size in enumerate(sizes):
        values = np.arange(size, dtype=np.float32) + number
        runner.run(pack({"values": values, "scale": 0.5}, pin=True), step.parts)
    return float(step.total), float(step.noise)


SIZES = [5, 4, 5, 5, 4, 5, 4, 4, 5, 4]
EXPECTED = sum(0.5 * float(((np.arange(size) + i) ** 2).sum()) for i, size in enumerate(SIZES))


def test_graphs_equal_eager_steps_with_random_numbers() -> None:
    results = []
    for use_graphs in (False, True):
        step = Sum()
        results.append(run_all(step, StepRunner(DEVICE, use_graphs), SIZES))
        assert step.reductions == len(SIZES)
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    assert results[0][0] == pytest.approx(EXPECTED)


def test_failed_recording_falls_back_with_reason() -> None:
    notes: list[str] = []
    eager = run_all(Sum(), StepRunner(DEVICE, False), SIZES)
    assert run_all(Sum(reads_back=True), StepRunner(DEVICE, True, notes.append), SIZES) == pytest.approx(
        eager, rel=1e-6
    )
    (note,) = notes
    assert note.startswith("steps run without CUDA graphs") and "\n" not in note


def test_recording_tolerates_thread_that_allocates() -> None:
    """Pinned memory is allocated all the time while steps are recorded."""
    notes: list[str] = []
    runner, step = StepRunner(DEVICE, True, notes.append), Sum()
    count = 40 * (WARMUP_STEPS + 1)

    def plan(number: int) -> Any:
        # A new size every few steps: neither the memory nor the graph of another can be reused.
        size = 1000 * (1 + number // (WARMUP_STEPS + 1))
        return prepare_inputs({"values": np.ones(size, np.float32), "scale": 1.0}, DEVICE)

    for inputs in prefetch(plan, count, DEVICE):
        runner.run(inputs, step.parts)
    assert not notes
    assert float(step.total) == sum(1000 * (1 + number // (WARMUP_STEPS + 1)) for number in range(count))

"""Runs training steps: on a GPU as CUDA graphs, otherwise as they are written.

A step of a small network is a few hundred kernels of microseconds each, and a CPU needs longer to launch them
than the GPU to run them. A CUDA graph records the kernels once and launches all of them by one call. Its
kernels read and write fixed addresses: inputs are copied to a fixed buffer, and all that a step changes
(weights, optimizer state, averages) is changed in place.

A step consists of parts. Between them are the collectives of several workers, which are not recorded, so that
they work with every backend, and a lost worker never leaves a graph waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.training.step_inputs import Inputs, PackedInputs
from pipeline.training.world import World

# Steps of each layout that run as they are written before they are recorded: the first creates the optimizer
# state, chooses algorithms and compiles.
WARMUP_STEPS = 2

# Steps that may be queued on a GPU: enough to keep it busy, few enough for progress and memory.
MAX_QUEUED_STEPS = 8

# Part of a step: takes the inputs and the results of the parts before it, to which it adds its own.
Part = Callable[[Inputs, dict[str, Any]], None]


@dataclass(frozen=True)
class StepPart:
    """Part of a step, and the collective after it."""

    compute: Part
    reduce: Callable[[], None] | None = None


@dataclass
class _Recording:
    """Static buffer of a step's inputs, and its parts as CUDA graphs once they are recorded."""

    buffer: Tensor
    inputs: Inputs
    steps: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    graphs: list[torch.cuda.CUDAGraph] = field(default_factory=list)


class StepRunner:
    """Runs the steps of a training loop on one device."""

    def __init__(
        self,
        device: torch.device,
        use_graphs: bool,
        note: Callable[[str], None] = lambda text: None,
        reset: Callable[[], None] = lambda: None,
    ):
        """Use CUDA graphs if `use_graphs` and `device` is a GPU.

        Args:
            device: device of the steps.
            use_graphs: whether to record them.
            note: logs why graphs are not used.
            reset: called after a failed recording, before the step runs again: restores what a part of a step
                leaves behind on the host.
        """
        self._device, self._reset = device, reset
        self._use_graphs = use_graphs and device.type == "cuda"
        self._note = note
        self._recordings: dict[Hashable, _Recording] = {}
        self._pool: Any = None
        self._queued: deque[torch.cuda.Event] = deque()

    def run(
        self, inputs: PackedInputs | Inputs, parts: Sequence[StepPart], variant: Hashable = None
    ) -> dict[str, Any]:
        """Run a step; return the results of its parts, valid until the next step.

        Args:
            inputs: from `prepare_inputs`.
            parts: the parts in order; the same for each layout of inputs and variant.
            variant: names steps that have the same inputs but other parts.
        """
        if not isinstance(inputs, PackedInputs):
            return _run_parts(parts, inputs)
        results = self._run_graphs(inputs, parts, variant) if self._use_graphs else None
        if results is None:
            buffer = inputs.buffer.to(self._device, non_blocking=True)
            results = _run_parts(parts, inputs.layout.views(buffer))
        if self._device.type == "cuda":
            self._limit_queue()
        return results

    def _limit_queue(self) -> None:
        """Wait until at most `MAX_QUEUED_STEPS` steps are queued on the GPU."""
        event = torch.cuda.Event(blocking=True)
        event.record()
        self._queued.append(event)
        if len(self._queued) > MAX_QUEUED_STEPS:
            self._queued.popleft().synchronize()

    def _run_graphs(
        self, inputs: PackedInputs, parts: Sequence[StepPart], variant: Hashable
    ) -> dict[str, Any] | None:
        """Run a step by its graphs, or as it is written while it warms up; None if recording it failed."""
        recording = self._recording(inputs, variant)
        recording.buffer.copy_(inputs.buffer, non_blocking=True)
        if not recording.graphs and recording.steps >= WARMUP_STEPS:
            self._record(recording, parts)
            if not self._use_graphs:
                return None
        recording.steps += 1
        if not recording.graphs:
            return _run_parts(parts, recording.inputs)
        _run_all([graph.replay for graph in recording.graphs], parts)
        return recording.results

    def _recording(self, inputs: PackedInputs, variant: Hashable) -> _Recording:
        key = (inputs.layout, variant)
        if key not in self._recordings:
            buffer = torch.empty_like(inputs.buffer, device=self._device)
            self._recordings[key] = _Recording(buffer, inputs.layout.views(buffer))
        return self._recordings[key]

    def _record(self, recording: _Recording, parts: Sequence[StepPart]) -> None:
        """Record the parts; after an error all later steps run as they are written."""
        graphs: list[torch.cuda.CUDAGraph] = []
        results: dict[str, Any] = {}
        try:
            torch.cuda.synchronize(self._device)
            # What the steps before have freed would otherwise be reserved twice.
            torch.cuda.empty_cache()
            for part in parts:
                graph = torch.cuda.CUDAGraph()
                # One memory pool for all: steps run one after another, and results are used before the next.
                # thread_local: the thread that prefetches allocates pinned memory meanwhile.
                with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                    part.compute(recording.inputs, results)
                self._pool = self._pool or graph.pool()
                graphs.append(graph)
        except Exception as error:
            torch.cuda.synchronize(self._device)
            _reset_random_generator(self._device)
            self._use_graphs = False
            self._recordings.clear()
            self._reset()
            line = (str(error).strip().splitlines() or [""])[0]
            self._note(
                f"steps run without CUDA graphs, more slowly, as recording failed "
                f"({type(error).__name__}: {line}); --no-cuda-graphs does not try"
            )
            return
        recording.graphs, recording.results = graphs, results


def _reset_random_generator(device: torch.device) -> None:
    """Make a GPU's random generator usable after a failed recording, which leaves it in that mode."""
    generator = torch.cuda.default_generators[device.index or 0]
    generator.graphsafe_set_state(generator.clone_state())


def _run_parts(parts: Sequence[StepPart], inputs: Inputs) -> dict[str, Any]:
    """Run the parts as they are written; return their results."""
    results: dict[str, Any] = {}
    _run_all([partial(part.compute, inputs, results) for part in parts], parts)
    return results


def _run_all(computations: Sequence[Callable[[], None]], parts: Sequence[StepPart]) -> None:
    """Run the computation of each part, and the collective after it."""
    for compute, part in zip(computations, parts, strict=True):
        compute()
        if part.reduce is not None:
            part.reduce()


class FlatGradients:
    """Gradients of a network as views of one buffer, which a single collective averages over workers.

    Each has the memory layout of its parameter, which the fused optimizers require.
    """

    def __init__(self, model: nn.Module):
        """Create zero gradients of all parameters that are trained."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.buffer = torch.zeros(
            sum(p.numel() for p in parameters), dtype=parameters[0].dtype, device=parameters[0].device
        )
        start = 0
        for p in parameters:
            p.grad = self.buffer.as_strided(p.shape, p.stride(), start)
            start += p.numel()

    def zero(self) -> None:
        """Set all gradients to zero, before the backward pass that adds to them."""
        self.buffer.zero_()

    def average(self, world: World) -> None:
        """Average over all workers in one all-reduce."""
        if world.size > 1:
            self.buffer /= world.size
            world.sum(self.buffer)

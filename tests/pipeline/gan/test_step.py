"""Training step of the GAN as on a GPU: packed inputs, flat gradients, at most two copies."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from models.ema import Ema
from pipeline.data.loader import BatchLoader
from pipeline.gan import step
from pipeline.gan.schedule import class_weight
from pipeline.gan.state import GanTrainState, prepare, reset
from pipeline.gan.step import plan_step, train_step
from pipeline.training.step_inputs import pack
from pipeline.training.step_runner import FlatGradients, StepRunner
from pipeline.training.world import World
from tests.helpers.device_copies import META, CountCopies, NoOptimizer
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import gan_config

pytestmark = pytest.mark.usefixtures("single_thread")


def networks(state: GanTrainState) -> dict[str, torch.nn.Module]:
    return {"generator": state.generator, "discriminator": state.discriminator}


def run_steps(state: GanTrainState, count: int = 4) -> list[list[float]]:
    rows = [state.split.train[7 * number : 7 * number + 7] for number in range(count)]
    return [train_step(state, plan_step(state, rows[number], number)).tolist() for number in range(count)]


def test_packed_step_with_flat_gradients_equals_plain(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = gan_config(shards, tmp_path, penalty_interval=2, penalty_weight=1.0)
    plain, packed = prepare(config, SINGLE_WORKER), prepare(config, SINGLE_WORKER)
    metrics = run_steps(plain)
    packed.gradients = {name: FlatGradients(model) for name, model in networks(packed).items()}
    for optimizer in packed.optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"])
    monkeypatch.setattr(step, "prepare_inputs", lambda arrays, device: pack(arrays, pin=False))
    for values, expected in zip(run_steps(packed), metrics, strict=True):
        assert values == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for name, value in plain.ema.model.state_dict().items():
        torch.testing.assert_close(packed.ema.model.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("gpu_bytes", [10**9, 0])
@pytest.mark.parametrize("number", [0, 1])
def test_step_copies_once_to_device(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu_bytes: int, number: int
) -> None:
    """With the rows on the device, and streamed; with gradient penalties, and without."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # has no such device
    cpu = prepare(gan_config(shards, tmp_path, penalty_interval=2, penalty_weight=1.0), SINGLE_WORKER)
    models = {name: model.to(META) for name, model in networks(cpu).items()}
    state = dataclasses.replace(
        cpu,
        world=World(0, 1, META),
        ema=Ema(cpu.generator, 0.9),
        optimizers={name: NoOptimizer(model) for name, model in models.items()},
        autocast=nullcontext,  # type: ignore[arg-type]
        loader=BatchLoader([cpu.dataset.mels], META, gpu_bytes),
        gradients={name: FlatGradients(model) for name, model in models.items()},
        runner=StepRunner(META, True),
        real_difference_C=cpu.real_difference_C.to(META),
        ada_p=cpu.ada_p.to(META),
    )
    plan = plan_step(state, state.split.train[:6], number)
    assert plan.has_penalty == (number == 0)
    with CountCopies() as copies:
        train_step(state, plan)
    assert len(copies.names) == 1, copies.names


def test_failed_step_leaves_gradients_to_later_ones(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a step does whose recording as a CUDA graph fails: it runs again without one."""
    state = prepare(gan_config(shards, tmp_path), SINGLE_WORKER)
    plan = plan_step(state, state.split.train[:7], 0)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(step, "diversity_loss", _raise_memory_error)
        train_step(state, plan)
    assert all(p.requires_grad for p in state.discriminator.parameters())
    train_step(state, plan)


def _raise_memory_error(*_: object) -> None:
    raise MemoryError


def test_class_loss_decays_linearly(shards: Path, tmp_path: Path) -> None:
    state = prepare(gan_config(shards, tmp_path, class_weight=0.4, class_final_factor=0.25), SINGLE_WORKER)
    weights = [class_weight(state, step) for step in (0, state.total_steps / 2, state.total_steps)]
    assert weights == pytest.approx([0.4, 0.25, 0.1])
    half = plan_step(state, state.split.train[:7], state.total_steps // 2)
    assert float(half.inputs["class_weight"]) == pytest.approx(0.25)  # type: ignore[index]


def test_class_loss_that_has_decayed_changes_nothing(shards: Path, tmp_path: Path) -> None:
    """At the last step, whose weight is 0, the step is that of a GAN without a class loss."""
    settings = {"penalty_weight": 0.0, "epochs": 1}
    decayed, without = (
        prepare(gan_config(shards, tmp_path, **settings, **weights), SINGLE_WORKER)
        for weights in ({"class_weight": 0.5, "class_final_factor": 0.0}, {"class_weight": 0.0})
    )
    for state in (decayed, without):
        train_step(state, plan_step(state, state.split.train[:7], state.total_steps))
    for name, value in without.generator.state_dict().items():
        torch.testing.assert_close(decayed.generator.state_dict()[name], value, msg=name)


def test_reset_state_repeats_first_steps(shards: Path, tmp_path: Path) -> None:
    """In place: the tensors remain the same, and with them all that refers to them."""
    state = prepare(gan_config(shards, tmp_path), SINGLE_WORKER)
    addresses = [p.data_ptr() for p in (*state.generator.parameters(), *state.ema.model.parameters())]
    first = run_steps(state)
    reset(state)
    assert state.step == state.ema.step == 0
    assert run_steps(state) == first
    assert addresses == [p.data_ptr() for p in (*state.generator.parameters(), *state.ema.model.parameters())]

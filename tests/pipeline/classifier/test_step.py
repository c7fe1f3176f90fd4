"""Training step of the classifier as on a GPU: packed inputs, flat gradients, one copy to the device."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.augmentation_params import sample_batch_augmentation
from models.ema import Ema
from models.repetition import repeat_short_clips
from models.settings import MixUpConfig, SpecAugmentConfig
from models.texture_statistics import texture_statistics
from pipeline.audio.room_noise import acoustics_of
from pipeline.classifier import step
from pipeline.classifier.prepare import prepare
from pipeline.classifier.state import TrainState
from pipeline.classifier.step import choose_samples, make_batch, plan_step, row_losses, train_step
from pipeline.data.loader import BatchLoader
from pipeline.training.step_inputs import pack
from pipeline.training.step_runner import FlatGradients, StepRunner
from pipeline.training.world import World, rank_slice
from tests.helpers.device_copies import META, CountCopies, NoOptimizer
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import train_config

pytestmark = pytest.mark.usefixtures("single_thread")


ROOMS_AND_NOISE = {"spec_augment": {"reverb": 0.5, "noise": 0.5}}
MULTI_LABEL = {"multi_label": True, "class_weights": True, "focal_gamma": 2.0}


def run_steps(state: TrainState, count: int = 5) -> list[float]:
    state.wrapped_model.train()
    torch.manual_seed(0)
    batches = np.array_split(np.resize(state.split.train, 16 * count), count)
    return [float(train_step(state, plan_step(state, batch, number))) for number, batch in enumerate(batches)]


@pytest.mark.parametrize("settings", [{}, MULTI_LABEL], ids=["one label", "multi-label"])
def test_packed_step_with_flat_gradients_equals_plain(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    plain = prepare(train_config(shards, tmp_path, **settings), SINGLE_WORKER)
    losses = run_steps(plain)
    packed = prepare(train_config(shards, tmp_path, **settings), SINGLE_WORKER)
    packed.gradients = FlatGradients(packed.model)
    for group in packed.optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"])
    monkeypatch.setattr(step, "prepare_inputs", lambda arrays, device: pack(arrays, pin=False))
    assert run_steps(packed) == pytest.approx(losses, rel=1e-5)
    for name, value in plain.ema.model.state_dict().items():
        torch.testing.assert_close(packed.ema.model.state_dict()[name], value, rtol=1e-4, atol=1e-6, msg=name)


def on_meta(state: TrainState, gpu_bytes: int) -> TrainState:
    """Return the state with its networks and rows on `meta`, as they are on a GPU."""
    model, targets = state.model.to(META), state.multi_label
    if targets is not None:
        assert targets.positive_weight_C is not None
        targets = dataclasses.replace(
            targets,
            prior_C=targets.prior_C.to(META),
            positive_weight_C=targets.positive_weight_C.to(META),
        )
    return dataclasses.replace(
        state,
        multi_label=targets,
        world=World(0, 1, META),
        model=model,
        wrapped_model=model,
        ema=Ema(model, 0.9),
        optimizer=NoOptimizer(model),
        autocast=nullcontext,  # type: ignore[arg-type]
        loader=BatchLoader([state.dataset.mels], META, gpu_bytes),
        gradients=FlatGradients(model),
        runner=StepRunner(META, True),
        acoustics=None if state.acoustics is None else acoustics_of(state.dataset.features, META),
    )


@pytest.mark.parametrize(
    "settings", [{}, ROOMS_AND_NOISE, MULTI_LABEL], ids=["one label", "rooms and noise", "multi-label"]
)
@pytest.mark.parametrize("gpu_bytes", [10**9, 0])
def test_step_copies_once_to_device(
    shards: Path, tmp_path: Path, gpu_bytes: int, settings: dict[str, Any]
) -> None:
    """With the rows on the device, and with rows that are streamed."""
    state = on_meta(prepare(train_config(shards, tmp_path, **settings), SINGLE_WORKER), gpu_bytes)
    assert state.loader.is_resident == bool(gpu_bytes)
    state.wrapped_model.train()
    inputs = plan_step(state, state.split.train[:16], 0)
    with CountCopies() as copies:
        train_step(state, inputs)
    assert len(copies.names) == 1, copies.names


def test_rooms_and_noise_change_the_clips_that_have_them(shards: Path, tmp_path: Path) -> None:
    state = prepare(train_config(shards, tmp_path, mixup={"rate": 0.0}, **ROOMS_AND_NOISE), SINGLE_WORKER)
    inputs = plan_step(state, state.split.train[:16], 0)
    assert isinstance(inputs, dict)
    changed_B = (inputs["reverb_wet_B"] > 0) | inputs["snr_db_B"].isfinite()
    augmented_BMT = make_batch(state, inputs).mel_BMT
    plain_BMT = make_batch(dataclasses.replace(state, acoustics=None), inputs).mel_BMT
    assert 0 < int(changed_B.sum()) < 16
    assert ((augmented_BMT != plain_BMT).any(dim=(1, 2)) == changed_B).all()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_chosen_samples_hold_own_slice_and_partners(device: str, size: int) -> None:
    augmentation = sample_batch_augmentation(
        np.random.default_rng(0), 16, MixUpConfig(rate=0.5), SpecAugmentConfig()
    )
    for rank in range(size):
        world = World(rank, size, torch.device(device))
        samples, position = choose_samples(world, augmentation)
        own = np.arange(16)[rank_slice(16, world)]
        assert samples[: len(own)].tolist() == own.tolist()
        mixed = augmentation.lam[own] < 1
        if position is None:
            assert device == "cpu" and not mixed.any()
            continue
        assert samples[position[mixed]].tolist() == augmentation.partner[own][mixed].tolist()
        if device == "cpu":
            assert len(set(samples)) == len(samples)  # each row is read once
        else:
            assert len(samples) == (len(own) if size == 1 else 2 * len(own))


def test_class_weights_do_not_change_what_is_best_for_a_row(shards: Path, tmp_path: Path) -> None:
    """They weight rows: the smoothed target of a common class has no more of a rare one than without them."""
    state = prepare(train_config(shards, tmp_path, class_weights=True, label_smoothing=0.1), SINGLE_WORKER)
    state.class_weight_C = torch.tensor([0.1, 1.0, 50.0])
    smoothed_BC = 0.9 * torch.eye(3) + 0.1 / 3
    logits_BC = smoothed_BC.log().requires_grad_()
    loss_B = row_losses(state, logits_BC, torch.eye(3))
    torch.testing.assert_close(loss_B / loss_B[1], state.class_weight_C)
    loss_B.sum().backward()
    torch.testing.assert_close(logits_BC.grad, torch.zeros(3, 3), rtol=0, atol=1e-5)


def test_heads_are_trained_one_by_one(shards: Path, tmp_path: Path) -> None:
    """Neither the loss of a head nor the size of its gradients affects the training of the other."""
    after = []
    for factor in (1.0, 300.0):
        state = prepare(
            train_config(shards, tmp_path, model={"dropout": 0.0, "texture": True}), SINGLE_WORKER
        )
        assert state.model.texture is not None
        with torch.no_grad():
            for parameter in state.model.texture.parameters():
                parameter.mul_(factor)
        run_steps(state)
        after.append(dict(state.model.named_parameters()))
    for name, parameter in after[0].items():
        assert torch.equal(parameter, after[1][name]) != name.startswith("texture."), name


def test_texture_is_that_of_clips_without_masks(shards: Path, tmp_path: Path) -> None:
    """Masks have edges, which would be in all training clips and in no other."""
    masks = {"time_width": 0.3, "freq_width": 0.3}
    settings: dict[str, Any] = {"model": {"dropout": 0.0, "texture": True}}
    logits = []
    for spec_augment in ({"time_width": 0.0, "freq_width": 0.0}, masks):
        config = train_config(shards, tmp_path, spec_augment=spec_augment, **settings)
        state = prepare(config, SINGLE_WORKER)
        inputs = plan_step(state, state.split.train[:8], 0)
        assert isinstance(inputs, dict)
        batch = make_batch(state, inputs)
        logits.append(state.model(batch.mel_BMT, texture_BMT=batch.texture_BMT, separate_heads=True))
    assert torch.equal(logits[0][:, 1], logits[1][:, 1])
    assert not torch.allclose(logits[0][:, 0], logits[1][:, 0])


@pytest.mark.parametrize("multi_label", [None, True])
def test_texture_of_every_second_clip_is_that_of_the_dataset(
    shards: Path, tmp_path: Path, multi_label: bool | None
) -> None:
    """Interpolated levels fluctuate less than those of clips to predict; mixed ones are no sound."""
    mixup = {"rate": 1.0, "alpha": 1.0}
    config = train_config(shards, tmp_path, mixup=mixup, multi_label=multi_label, model={"texture": True})
    state = prepare(config, SINGLE_WORKER)
    rows = np.random.default_rng(0).permutation(state.split.train)[:8]
    inputs = plan_step(state, rows, 0)
    assert isinstance(inputs, dict)
    batch = make_batch(state, inputs)
    mels = repeat_short_clips(torch.from_numpy(np.stack([state.dataset.mels[row] for row in rows])).float())
    assert batch.texture_BMT is not None
    assert torch.equal(batch.texture_BMT[::2], mels[::2])
    assert not any(map(torch.equal, batch.texture_BMT[1::2], mels[1::2]))
    labels = torch.from_numpy(state.dataset.labels[rows])
    assert torch.equal(batch.texture_target_BC, torch.eye(batch.target_BC.shape[1])[labels])
    assert not torch.equal(batch.target_BC, batch.texture_target_BC)


def test_workers_see_the_same_texture_as_one(shards: Path, tmp_path: Path) -> None:
    """Also if slices of a batch begin at odd positions."""
    parts = []
    for world in (
        SINGLE_WORKER,
        *(dataclasses.replace(SINGLE_WORKER, rank=rank, size=3) for rank in range(3)),
    ):
        state = prepare(train_config(shards, tmp_path, model={"texture": True}), SINGLE_WORKER)
        state.world = world
        inputs = plan_step(state, state.split.train[:8], 0)
        assert isinstance(inputs, dict)
        batch = make_batch(state, inputs)
        assert batch.texture_BMT is not None
        parts.append(batch.texture_BMT)
    assert torch.equal(parts[0], torch.cat(parts[1:]))


def test_texture_statistics_are_standardized(shards: Path, tmp_path: Path) -> None:
    """To mean 0 and standard deviation 1 over the training clips, except for those that are constant."""
    state = prepare(train_config(shards, tmp_path), SINGLE_WORKER)
    texture = state.model.texture
    assert texture is not None
    mels = torch.from_numpy(np.stack([state.dataset.mels[row] for row in state.split.train])).float()
    statistics_BK = (texture_statistics(repeat_short_clips(mels)) - texture.mean_K) / texture.std_K
    varies_K = texture.std_K > 2e-3
    assert varies_K.float().mean() > 0.8
    torch.testing.assert_close(
        statistics_BK.mean(0)[varies_K], torch.zeros(int(varies_K.sum())), atol=1e-2, rtol=0
    )
    torch.testing.assert_close(
        statistics_BK.std(0, correction=0)[varies_K], torch.ones(int(varies_K.sum())), atol=1e-2, rtol=0
    )

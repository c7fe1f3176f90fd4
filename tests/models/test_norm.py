"""Batch norm over two workers equals that of one worker on all rows; group norm keeps the memory format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.classifier import Classifier, ClassifierConfig
from models.norm import NormName, SyncBatchNorm2d, make_norm
from pipeline.training.world import World
from tests.helpers.ranks import run_ranks

# Rows of the two workers in each step: unequal slices, one of a single row.
SLICES = (slice(0, 1), slice(1, 7))


def classifier(norm: NormName) -> Classifier:
    torch.manual_seed(0)
    config = ClassifierConfig(
        channels=(8, 12), convs_per_block=1, embedding_dim=16, dropout=0.0, norm=norm, modulation=True
    )
    return Classifier(config, n_mels=16, num_classes=3)


def mels(step: int) -> Tensor:
    return torch.randn(7, 16, 30, generator=torch.Generator().manual_seed(step)) * 20 - 40


def train_steps(model: Classifier, rows: slice) -> dict[str, Tensor]:
    """Return the logits of the last of three steps, the gradients of the summed losses, and the buffers."""
    model.train()
    for step in range(3):
        logits = model(mels(step)[rows])
        (logits.square().sum(dim=1) * torch.arange(1.0, 8.0)[rows]).sum().backward()
    gradients = {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **gradients, **dict(model.named_buffers())}


def work_as_rank(world: World, folder: Path) -> None:
    """Save what `train_steps` returns on one of two workers, and the output of one layer for large values."""
    rank = world.rank
    model = classifier("sync")
    assert model.has_collectives
    values = train_steps(model, SLICES[rank])
    values["large"] = SyncBatchNorm2d(4)(large_values()[SLICES[rank]]).detach()
    values["half"] = SyncBatchNorm2d(4)(large_values()[SLICES[rank]].bfloat16()).detach()
    if rank == 0:  # in evaluation no other worker takes part
        values["evaluated"] = model.eval()(mels(9)).detach()
    torch.save(values, folder / f"rank{rank}.pt")


def large_values() -> Tensor:
    """Feature maps whose mean is a thousand times their standard deviation."""
    x_BKHW = torch.randn(7, 4, 6, 5, generator=torch.Generator().manual_seed(1)) + 1000
    return x_BKHW.to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """The results of `work_as_rank` of both workers."""
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(work_as_rank, 2, folder / "rendezvous", folder)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


def test_sync_norm_of_two_workers_equals_one(ranks: list[dict[str, Tensor]]) -> None:
    expected = train_steps(classifier("batch"), slice(None))
    assert sum("running" in name for name in expected) == 12
    for name, value in expected.items():
        if name == "logits":
            got = torch.cat([values[name] for values in ranks])
        elif name.endswith(".grad"):
            got = ranks[0][name] + ranks[1][name]
        else:
            got = ranks[0][name]
            assert torch.equal(got, ranks[1][name]), name
        torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-4 * float(value.abs().max()), msg=name)


def test_batch_norm_differs_without_synchronization() -> None:
    """The comparison above can fail."""
    whole = train_steps(classifier("batch"), slice(None))
    halves = [train_steps(classifier("batch"), rows)["logits"] for rows in SLICES]
    assert not torch.allclose(torch.cat(halves), whole["logits"], rtol=1e-2)


def test_sync_norm_keeps_digits_type_and_format(ranks: list[dict[str, Tensor]]) -> None:
    expected = nn.BatchNorm2d(4)(large_values())
    torch.testing.assert_close(torch.cat([r["large"] for r in ranks]), expected, rtol=1e-3, atol=1e-3)
    assert ranks[1]["large"].is_contiguous(memory_format=torch.channels_last)
    assert ranks[1]["half"].dtype == torch.bfloat16
    assert ranks[1]["half"].is_contiguous(memory_format=torch.channels_last)


def test_plain_network_loads_sync_weights(ranks: list[dict[str, Tensor]], tmp_path: Path) -> None:
    synced, plain = classifier("sync"), classifier("batch")
    assert synced.state_dict().keys() == plain.state_dict().keys()
    buffers = {name: value for name, value in ranks[0].items() if name in plain.state_dict()}
    plain.load_state_dict(synced.state_dict() | buffers)
    torch.testing.assert_close(plain.eval()(mels(9)).detach(), ranks[0]["evaluated"])


def test_sync_norm_of_one_worker_equals_batch() -> None:
    model = classifier("sync")
    assert not model.has_collectives
    values, expected = train_steps(model, slice(None)), train_steps(classifier("batch"), slice(None))
    assert all(torch.equal(values[name], value) for name, value in expected.items())


@pytest.mark.parametrize("name", ["batch", "group", "sync"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_norm_keeps_memory_format(name: NormName, memory_format: torch.memory_format) -> None:
    x_BKHW = torch.randn(3, 12, 6, 5).contiguous(memory_format=memory_format).requires_grad_()
    y_BKHW = make_norm(name, 12)(x_BKHW)
    assert y_BKHW.is_contiguous(memory_format=memory_format)


def test_group_norm_restores_format_that_torch_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where torch's group norm returns NCHW."""
    original = nn.GroupNorm.forward
    monkeypatch.setattr(nn.GroupNorm, "forward", lambda self, x: original(self, x.contiguous()))
    x_BKHW = torch.randn(3, 12, 6, 5).contiguous(memory_format=torch.channels_last)
    y_BKHW = make_norm("group", 12)(x_BKHW)
    assert y_BKHW.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y_BKHW, nn.GroupNorm(6, 12)(x_BKHW))


def test_group_norm_equals_torch_digit_for_digit() -> None:
    x_BKHW = torch.randn(3, 16, 6, 5).contiguous(memory_format=torch.channels_last)
    assert torch.equal(make_norm("group", 16)(x_BKHW), nn.GroupNorm(8, 16)(x_BKHW))

"""Architectures of the classifier: what every one must do, and the residual one in particular."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.backbones import BACKBONES, build_backbone
from models.backbones.mobilenet import InvertedResidualUnit
from models.backbones.resnet_se import ResidualUnit, SqueezeExcitation
from models.classifier import Classifier
from models.config import ConfigError
from models.settings import ArchName, ClassifierConfig

ARCHITECTURES = list(BACKBONES)


def small(arch: ArchName, **settings: object) -> ClassifierConfig:
    return ClassifierConfig(**{"arch": arch, "channels": (8, 16), "embedding_dim": 8} | settings)


def random_mels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 20 - 40


def test_every_name_has_a_file() -> None:
    assert set(BACKBONES) == set(get_args(ArchName))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(16, 64), (7, 501), (1, 1), (33, 2)])
def test_any_size_gives_finite_logits_and_gradients(arch: ArchName, shape: tuple[int, int]) -> None:
    model = Classifier(small(arch), shape[0], 3).train()
    logits = model(random_mels(4, *shape))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_clips_are_independent_under_group_norm(arch: ArchName) -> None:
    model = Classifier(small(arch, norm="group"), 16, 3).eval()
    mels = random_mels(3, 16, 40)
    single = torch.cat([model(mels[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(mels), single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_stages_hold_all_weights_in_order(arch: ArchName) -> None:
    model = Classifier(small(arch, channels=(8, 16, 24), texture=True), 16, 3)
    names = [name for names in model.stages.values() for name in names]
    statistics = {"mel_mean_M", "mel_std_M", "texture.mean_K", "texture.std_K"}
    assert names == [name for name in model.state_dict() if name not in statistics]
    assert len(model.stages) == 3 + 4


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_blocks_halve_both_axes(arch: ArchName) -> None:
    stem, blocks = build_backbone(small(arch))
    x = torch.zeros(1, 1, 32, 64)
    for part, size in zip([stem, *blocks], [(16, 32), (8, 16), (4, 8)], strict=True):
        x = part(x)
        assert x.shape[2:] == size
    assert x.shape[1] == 16


def test_last_relu_of_a_block_follows_pooling_without_a_change_of_values_or_gradients() -> None:
    torch.manual_seed(0)
    config = small("cnn")
    block = build_backbone(config)[1][0]
    x = torch.randn(2, 8, 9, 12, requires_grad=True)
    plain = torch.nn.Sequential(*block[:-2], torch.nn.ReLU(), torch.nn.MaxPool2d(2, ceil_mode=True))
    actual, expected = block(x), plain(x)
    assert isinstance(block[-1], torch.nn.ReLU) and torch.equal(actual, expected) and not actual.all()
    weight = torch.randn_like(actual)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (block(x), plain(x))]
    assert torch.equal(*gradients)


def test_networks_cost_at_most_as_much_as_plain_one() -> None:
    flops = {}
    for arch in ARCHITECTURES:
        model = Classifier(ClassifierConfig(arch=arch), 128, 10).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(random_mels(1, 128, 216))
        flops[arch] = counter.get_total_flops()
    assert flops["resnet-se"] == pytest.approx(flops["cnn"], rel=0.1)
    assert flops["mobilenet"] == pytest.approx(flops["cnn"] / 2, rel=0.1)


def test_residual_unit_starts_as_its_shortcut() -> None:
    torch.manual_seed(0)
    unit = ResidualUnit(8, 8, small("resnet-se"))
    x = torch.rand(2, 8, 5, 6)
    torch.testing.assert_close(unit(x), x)
    torch.nn.init.ones_(unit.norm2.weight)  # type: ignore[arg-type]
    assert not torch.allclose(unit(x), x)


def test_inverted_unit_adds_to_input_of_its_width() -> None:
    torch.manual_seed(0)
    unit = InvertedResidualUnit(8, 8, small("mobilenet"))
    x = torch.rand(2, 8, 5, 6)
    assert not torch.allclose(unit(x), x)
    torch.nn.init.zeros_(unit.project[1].weight)  # type: ignore[arg-type]
    torch.testing.assert_close(unit(x), x)
    wider = InvertedResidualUnit(8, 12, small("mobilenet"))
    torch.nn.init.zeros_(wider.project[1].weight)  # type: ignore[arg-type]
    assert wider(x).shape[1] == 12 and not wider(x).any()


def test_squeeze_excitation_weights_channels_of_a_clip() -> None:
    torch.manual_seed(0)
    layer = SqueezeExcitation(8)
    x = torch.rand(2, 8, 5, 6)
    ratio = layer(x) / x
    assert ((ratio > 0) & (ratio < 1)).all()
    torch.testing.assert_close(ratio, ratio.mean(dim=(2, 3), keepdim=True).expand_as(ratio))
    assert not torch.allclose(ratio[0], ratio[1])


@pytest.mark.parametrize("arch", ["resnet-se", "mobilenet"])
def test_odd_number_of_convolutions_is_refused(arch: ArchName) -> None:
    with pytest.raises(ConfigError, match=f"convs_per_block 3: {arch} needs 2 or 4"):
        small(arch, convs_per_block=3)

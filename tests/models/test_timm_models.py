"""Networks of timm as architectures; most tests need timm, an optional dependency."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest
import torch

from models.backbones import timm_models
from models.backbones.timm_models import ModelError, check_timm
from models.classifier import Classifier
from models.config import ConfigError
from models.settings import ClassifierConfig
from tests.helpers.timm import needs_timm

# Tiny networks that timm has for tests: with batch norm, layer norm, attention of a fixed input size.
NAMES = ["test_efficientnet", "test_resnet", "test_convnext", "test_vit"]


def make_model(name: str, n_mels: int = 16, classes: int = 3) -> Classifier:
    torch.manual_seed(0)
    return Classifier(ClassifierConfig(arch=f"timm:{name}", embedding_dim=8), n_mels, classes)


def random_mels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 20 - 40


@needs_timm
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(16, 64), (40, 501), (3, 2)])
def test_any_size_gives_logits_and_all_gradients(name: str, shape: tuple[int, int]) -> None:
    model = make_model(name, shape[0]).train()
    logits = model(random_mels(4, *shape))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@needs_timm
@pytest.mark.parametrize("name", NAMES)
def test_stages_hold_all_weights_once(name: str) -> None:
    model = make_model(name)
    names = [name for names in model.stages.values() for name in names]
    statistics = {"mel_mean_M", "mel_std_M", "texture.mean_K", "texture.std_K"}
    assert sorted(names) == sorted(model.state_dict().keys() - statistics)
    assert len(model.stages) > 5 and list(model.stages)[-3:] == ["modulation", "projection", "head"]


@needs_timm
def test_stages_of_residual_network_are_its_layers() -> None:
    stages = list(make_model("test_resnet").stages.values())
    assert all(name.startswith(("backbone.model.conv1", "backbone.model.bn1")) for name in stages[0])
    for i in range(1, 5):
        assert all(name.startswith(f"backbone.model.layer{i}.") for name in stages[i])
        assert any(name.endswith("running_mean") for name in stages[i])


@needs_timm
def test_frozen_stages_keep_weights_and_statistics() -> None:
    model = make_model("test_resnet")
    model.freeze(3)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = [name for names in list(model.stages.values())[:3] for name in names]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(random_mels(4, 16, 64)).square().sum().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not changed & set(frozen)
    assert "backbone.model.layer4.0.bn1.running_mean" in changed
    assert any(name.startswith("backbone.model.layer3.") and name.endswith("weight") for name in changed)


@needs_timm
def test_unknown_name_error_suggests_similar_ones() -> None:
    with pytest.raises(
        ModelError, match=r"timm:resnet19: timm .* has no such network; similar .*resnet18"
    ) as error:
        make_model("resnet19")
    assert "\n" not in str(error.value)


@needs_timm
def test_unknown_tag_of_weights_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"timm:test_resnet.nothing: ") as error:
        make_model("test_resnet.nothing")
    assert "\n" not in str(error.value)


@needs_timm
def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    backbone: Any = make_model("test_resnet").backbone
    with pytest.raises(ModelError, match=r"weights cannot be downloaded \(.*; .* by --init-from") as error:
        backbone.load_pretrained()
    assert "\n" not in str(error.value)


def test_missing_timm_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match=r"timm:resnet18 needs timm .*: pip install 'melray\[timm\]'$"):
        check_timm("resnet18")


def test_torchvision_of_another_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_broken(name: str, *args: Any) -> Any:
        if name == "timm":
            raise RuntimeError("operator torchvision::nms does not exist\nat line 3")
        return original(name, *args)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", import_broken)
    with pytest.raises(
        ModelError, match=r"\(operator torchvision::nms does not exist\): install the torchvision"
    ):
        timm_models._import_timm("resnet18")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "resnet_se"}, r"'arch' = 'resnet_se': unknown architecture; did you mean resnet-se\?"),
        ({"arch": "timm:"}, r"unknown architecture; choose cnn, resnet-se, mobilenet or timm:NAME"),
        ({"arch": "timm:resnet18", "norm": "group"}, "norm group: timm:resnet18 has norms of its own"),
        ({"pretrained": True}, "pretrained: cnn has no pretrained weights, only networks of timm"),
    ],
)
def test_unusable_architecture_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ClassifierConfig(**settings)

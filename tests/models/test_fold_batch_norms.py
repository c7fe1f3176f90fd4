"""Networks with folded batch norms have the same outputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.classifier import Classifier, ClassifierConfig
from models.fold_batch_norms import fold_batch_norms
from models.settings import NormName


@pytest.mark.parametrize("arch", ["cnn", "resnet-se", "mobilenet"])
@pytest.mark.parametrize("norm", ["batch", "sync", "group"])
def test_folded_batch_norms_change_nothing(arch: str, norm: NormName) -> None:
    torch.manual_seed(0)
    network = Classifier(ClassifierConfig(arch=arch, norm=norm, channels=(8, 16), modulation=True), 32, 3)
    mels_BMT = 20 * torch.randn(4, 32, 40) - 40
    for _ in range(3):  # so that statistics of the norms are not those of the start
        network.train()(mels_BMT)
    network.eval()
    with torch.no_grad():
        expected = network(mels_BMT)
        fold_batch_norms(network)
        torch.testing.assert_close(network(mels_BMT), expected, rtol=1e-4, atol=1e-5)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    # In residual units of `resnet-se`, the second norm is not in a sequence.
    assert len(norms) == (2 if arch == "resnet-se" and norm != "group" else 0)


class NormAndActivation(nn.BatchNorm2d):
    def forward(self, x_BKHW: torch.Tensor) -> torch.Tensor:
        return super().forward(x_BKHW).relu()


def test_norms_that_do_more_are_kept() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), NormAndActivation(3)).eval()
    x_BKHW = torch.randn(2, 2, 8, 8)
    expected = network(x_BKHW)
    fold_batch_norms(network)
    torch.testing.assert_close(network(x_BKHW), expected)
    assert expected.min() == 0

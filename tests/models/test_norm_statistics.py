"""Batch norm statistics that are computed again from given batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.classifier import Classifier
from models.norm_statistics import recompute_statistics
from models.settings import ClassifierConfig


def test_statistics_are_means_over_batches() -> None:
    """The second norm sees what the first one, with the statistics of the batch, passes on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1), nn.Dropout(0.9), nn.BatchNorm2d(3))
    batches = [torch.randn(n, 2, 4, 5) * 3 + n for n in (4, 8, 8)]
    recompute_statistics(model, batches)

    def means(values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean and unbiased variance of the channels, averaged over batches."""
        pairs = [torch.var_mean(x, (0, 2, 3)) for x in values]
        return torch.stack([mean for _, mean in pairs]).mean(0), torch.stack([v for v, _ in pairs]).mean(0)

    first, conv, _, second = model
    hidden = [conv(nn.BatchNorm2d(2)(x)) for x in batches]
    for norm, values in ((first, batches), (second, hidden)):
        mean, var = means(values)
        torch.testing.assert_close(norm.running_mean, mean.detach())
        torch.testing.assert_close(norm.running_var, var.detach())
        assert norm.momentum == 0.1 and not norm.training


def test_frozen_norms_keep_their_statistics() -> None:
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(channels=(4, 8), convs_per_block=1, embedding_dim=4), 16, 2)
    model.freeze(2)  # stem and first block
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recompute_statistics(model, [torch.randn(4, 16, 16)])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {name for names in list(model.stages.values())[:2] for name in names}
    assert changed and not changed & frozen
    assert all("running_" in name or "num_batches_tracked" in name for name in changed)

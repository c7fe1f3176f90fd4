"""What the command that trains a GAN says about its clips before it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.gan.train import check_clips
from tests.helpers.sounds import gan_config


@pytest.mark.parametrize(("select_best", "val_fraction"), [(True, 0.0), (True, 0.2), (False, 0.0)])
def test_missing_clips_to_select_an_epoch_by_are_named(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, select_best: bool, val_fraction: float
) -> None:
    check_clips(gan_config(shards, tmp_path, select_best=select_best, val_fraction=val_fraction))
    warnings = [text for text in caplog.messages if text.startswith("--select-best")]
    assert len(warnings) == (select_best and not val_fraction)
    assert all(
        "0 validation clips to select an epoch by, so the last one is kept" in text for text in warnings
    )

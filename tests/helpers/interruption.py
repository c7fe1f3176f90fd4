"""Training runs that end right after a checkpoint within an epoch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.training.epoch_position import EpochCheckpoints


class StoppedError(Exception):
    """Raised after the checkpoint."""


def interrupt(monkeypatch: pytest.MonkeyPatch, loop: Any, epoch: int, steps: int) -> None:
    """End training by a loop after some steps of an epoch, counted from 1, with `StoppedError`."""

    class Interrupting(EpochCheckpoints):
        epochs = 0

        def start_epoch(self, steps: int) -> None:
            super().start_epoch(steps)
            self.epochs += 1

        def after_step(self, finished: int, sums: torch.Tensor, seconds: float) -> None:
            if self.epochs == epoch + 1 and finished == steps:  # the constructor counts as well
                self.write(finished, sums, seconds)
                raise StoppedError

    monkeypatch.setattr(loop, "EpochCheckpoints", Interrupting)

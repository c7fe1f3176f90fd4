"""Checkpoint, model and log of an epoch, in this order, and the model of a run that was killed in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from pipeline.io.errors import report_os_errors
from pipeline.training.model_file import model_epoch
from pipeline.training.run_folder import RunFolder
from pipeline.training.world import World


def publish_epoch(
    run: RunFolder,
    owner: str | None,
    write_checkpoint: Callable[[], object],
    save_model: Callable[[], object] | None,
    write_log: Callable[[], object],
) -> None:
    """Write the checkpoint of an epoch, then the model if it is the best one, then the log.

    The checkpoint has the weights of the model too: after a crash in between `complete_model` writes it.

    Args:
        run: folder of the run.
        owner: id of the process that may write to the run, which is checked before each write.
        write_checkpoint: writes the checkpoint.
        save_model: writes the model; None to keep the one that there is.
        write_log: writes the metrics.

    Raises:
        UserError: another process has taken over the run, or it cannot be written.
    """
    for write in filter(None, (write_checkpoint, save_model, write_log)):
        run.check_owner(owner)
        with report_os_errors("writing to", run.path):
            write()


class _State(Protocol):
    """Restored training state."""

    @property
    def world(self) -> World: ...
    @property
    def position(self) -> Any: ...

    epoch: int
    best_epoch: int
    history: list[dict[str, Any]]


def complete_model(
    state: _State,
    run: RunFolder,
    owner: str | None,
    forget_best: Callable[[], object],
    save: Callable[[], None],
) -> None:
    """Write the model of the best epoch if the run does not have it; a collective.

    The checkpoint of an epoch is written before its model, and has its weights. If that checkpoint is
    damaged, the model is of an epoch that is trained again, and the weights of the best one are lost. Then
    the last epoch counts as the best one so far: the model is always that of an epoch in the history.

    Args:
        state: state restored from a checkpoint.
        run: folder of the run.
        owner: id of the process that may write to the run.
        forget_best: deletes the best score from the state, so that the next epoch is the best one.
        save: writes the model of the last epoch.

    Raises:
        UserError: on every rank, if rank 0 cannot write, or another process has taken over the run.
    """
    if state.world.run_on_main_rank(partial(model_epoch, run.path)) == state.best_epoch:
        return
    if state.position is not None:
        forget_best()
        return
    if state.best_epoch != state.epoch:
        forget_best()
        state.best_epoch = state.epoch
        state.history[-1]["best"] = True

    def write() -> None:
        run.check_owner(owner)
        save()

    state.world.run_on_main_rank(write)

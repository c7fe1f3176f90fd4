"""Where a command runs its work: its Ray session is opened at once, once its work is worth it, or never."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.session import session
from pipeline.distributed.execution import Execution, execution, start_ray
from pipeline.distributed.processes import start_fork_server, stop_fork_server
from pipeline.io.errors import UserError


@contextmanager
def command_execution(common: CommonFlags, needs_ray: bool = False, command: str = "") -> Iterator[None]:
    """Run the work of a command on Ray, or where `pipeline/distributed/execution.py` says, in a `with` block.

    Args:
        common: common flags of the command.
        needs_ray: whether the command always uses Ray.
        command: its name, for an error.

    Raises:
        UserError: the cluster cannot be reached or joined, or --no-ray and a command that needs Ray.
    """
    if needs_ray and common.ray is False:
        raise UserError(f"--no-ray: {command} needs Ray; drop the flag")
    with ExitStack() as stack:
        open_session = partial(stack.enter_context, session(common.address, common.cpus))
        with execution(Execution(common.ray, common.cpus, open_session)):
            if needs_ray or common.ray or common.address is not None:
                start_ray("the command")
            try:
                yield
            finally:
                stop_fork_server()


def prepare_processes(common: CommonFlags, module: str, flags: list[str]) -> None:
    """Have worker processes import a command's module while the command itself does, if it may use them."""
    if not (common.ray or common.address is not None or {"-h", "--help"} & set(flags)):
        start_fork_server([module])

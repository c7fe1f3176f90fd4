"""Tells a lost worker from a fault of the code, and what a user is told of either."""

from __future__ import annotations

from pipeline.io.errors import UserError

# How the death of a process shows in the errors of Ray, gloo and NCCL.
LOST_WORKER = (
    "HealthCheck",
    "ActorDied",
    "NodeDied",
    "WorkerCrashed",
    "OutOfMemory",
    "Connection closed",
    "Connection reset",
    "died",
    "NCCL",
)


def lost_worker(error: Exception) -> bool:
    """Whether an error says that a worker died, rather than that the code is at fault."""
    return any(word in type(error).__name__ + str(error) for word in LOST_WORKER)


def explain_lost(error: Exception, max_failures: int) -> Exception:
    """A `UserError` where workers died; the error itself where the code is at fault."""
    text = str(error).strip().splitlines()
    last = text[-1] if text else type(error).__name__
    if not lost_worker(error):
        return error
    return UserError(
        f"workers were lost more than --max-failures {max_failures} times, the last with: {last}; "
        "the same command goes on from the last epoch"
    )

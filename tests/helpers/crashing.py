"""Functions that end their process; in a module of their own, which worker processes import in no time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def crash(*_: object) -> None:
    """End the process, as a decoder with a bug would."""
    os._exit(139)


def hang_or_analyze(sound: Any, features: Any, max_seconds: float) -> Any:
    """Analyze a sound; one whose content is `hangs` ends the process once a file of its name exists."""
    from cluster.serving.analysis import analyze

    if sound.content != b"hangs":
        return analyze(sound, features, max_seconds)
    while not Path(sound.name).exists():
        time.sleep(0.01)
    return crash()

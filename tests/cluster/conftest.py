"""Restores the logger, which the command line configures, so that tests do not affect each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.io.console import logger


@pytest.fixture(autouse=True)
def restore_logger() -> Iterator[None]:
    """Undo what `setup_logging` changes."""
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.propagate, logger.handlers = propagate, handlers

"""The process that sends to a tracker: what its messages keep to themselves."""

from __future__ import annotations

import pytest

from pipeline.training.trackers.process import MAX_ERROR, describe_error

ENVIRONMENT = {
    "WANDB_API_KEY": "abc123",
    "MLFLOW_TRACKING_PASSWORD": "hunter2",
    "TOKENIZERS_PARALLELISM": "true",
    "MONKEY": "banana",
}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("bad key abc123", "bad key <WANDB_API_KEY>"),
        ("login\nwith hunter2 failed", "login with <MLFLOW_TRACKING_PASSWORD> failed"),
        ("GET http://me:pass@host/api failed", "GET http://host/api failed"),
        ("this is true of a banana", "this is true of a banana"),
        ("", "OSError"),
        ("x" * 1000, "x" * MAX_ERROR + "…"),
    ],
)
def test_error_is_one_line_without_credentials(message: str, text: str) -> None:
    assert describe_error(OSError(message), ENVIRONMENT) == text

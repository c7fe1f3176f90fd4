"""Settings of a submission, and their flags."""

from __future__ import annotations

from typing import Literal

SubmissionValues = Literal["auto", "label", "labels", "index", "probability"]
VALUES_FLAG, CLASS_FLAG = "--submission-values", "--positive-class"

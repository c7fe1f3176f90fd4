"""Recordings and folds of clips, as patterns extract them from file names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
from pydantic import field_validator

from models.config import Config
from pipeline.data.clips import MAX_FOLD
from pipeline.io.errors import UserError


class PatternConfig(Config):
    """Patterns that extract recording and fold from file names."""

    group_pattern: str | None = None
    r"""Regular expression on the file name; its last group is the recording id (ESC: '^\d-(\d+)-')."""
    fold_pattern: str | None = None
    r"""Regular expression on the file name; its first group is the fold number (ESC: '^(\d)-')."""

    @field_validator("group_pattern", "fold_pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            num_groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not num_groups:
            raise ValueError("the pattern needs a capture group, in parentheses")
        return pattern


def apply_patterns(clips: pd.DataFrame, config: PatternConfig) -> pd.DataFrame:
    """Set the columns `group` and `fold` of a manifest by the patterns that are given.

    Raises:
        UserError: a pattern does not match a file name, or its match is no fold number.
    """

    def file_names() -> Iterator[str]:
        return (clip_id.rpartition("/")[2] for clip_id in clips["clip_id"])

    if config.group_pattern is not None:
        groups = (_match(config.group_pattern, name, "--group-pattern", -1) for name in file_names())
        # An empty match, as of `(\d*)`, names no recording that the clip would share with others.
        clips["group"] = [group or clip_id for group, clip_id in zip(groups, clips["clip_id"], strict=True)]
    if config.fold_pattern is not None:
        clips["fold"] = [_match_fold(config.fold_pattern, name) for name in file_names()]
    return clips


def _match_fold(pattern: str, name: str) -> int:
    fold = _match(pattern, name, "--fold-pattern", 0)
    if not fold.isdecimal() or int(fold) > MAX_FOLD:
        raise UserError(
            f"--fold-pattern '{pattern}': '{fold}' of '{name}' is not an integer up to {MAX_FOLD:,}"
        )
    return int(fold)


def _match(pattern: str, name: str, flag: str, group_index: int) -> str:
    """Return one capture group of `pattern` in a file name.

    Raises:
        UserError: the pattern, or that group of it, does not match.
    """
    match = re.search(pattern, name)
    if match is None or match.groups()[group_index] is None:
        raise UserError(f"{flag} '{pattern}' does not match file name '{name}'")
    return match.groups()[group_index]

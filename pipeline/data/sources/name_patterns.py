"""Classes, recordings and folds of clips, as patterns extract them from their names."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd
from pydantic import field_validator

from models.config import Config
from pipeline.data.clips import MAX_FOLD
from pipeline.io.errors import UserError

# What to do about recordings that are not in folders of their classes.
PATTERN_HINT = "if names of files state the classes, add --label-pattern"


class PatternConfig(Config):
    """Patterns that extract class, recording and fold from names of files."""

    label_pattern: str | None = None
    r"""Regular expression on the path below `--data`; its first group is the class, instead of the folder
    (CREMA-D: '_(ANG|DIS|FEA|HAP|NEU|SAD)_'). All audio files in the folder are read."""
    group_pattern: str | None = None
    r"""Regular expression on the file name; its last group is the recording id (ESC: '^\d-(\d+)-')."""
    fold_pattern: str | None = None
    r"""Regular expression on the file name; its first group is the fold number (ESC: '^(\d)-')."""

    @field_validator("label_pattern", "group_pattern", "fold_pattern")
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


def named_classes(clip_ids: pd.Series, pattern: str) -> list[str]:
    """Return the class of each clip, by its path and a pattern.

    Raises:
        UserError: the pattern does not match a path, or its match is empty.
    """
    classes = [_match(pattern, path, "--label-pattern", 0, "path").strip() for path in clip_ids]
    if "" in classes:
        raise UserError(
            f"--label-pattern '{pattern}': the class in path '{clip_ids.iloc[classes.index('')]}' is empty"
        )
    return classes


def _match_fold(pattern: str, name: str) -> int:
    fold = _match(pattern, name, "--fold-pattern", 0)
    if not fold.isdecimal() or int(fold) > MAX_FOLD:
        raise UserError(
            f"--fold-pattern '{pattern}': '{fold}' of '{name}' is not an integer up to {MAX_FOLD:,}"
        )
    return int(fold)


def _match(pattern: str, name: str, flag: str, group_index: int, kind: str = "file name") -> str:
    """Return one capture group of `pattern` in a name, which `kind` describes.

    Raises:
        UserError: the pattern, or that group of it, does not match.
    """
    match = re.search(pattern, name)
    if match is None or match.groups()[group_index] is None:
        part = "" if match is None else " with its group in parentheses"
        raise UserError(f"{flag} '{pattern}' does not match {kind} '{name}'{part}")
    return match.groups()[group_index]

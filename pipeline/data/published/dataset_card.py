"""Configurations that the card of a Hugging Face dataset lists: `configs` at the top of `README.md`.

configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: en/train-*.parquet
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FolderTree
from pipeline.io.storage import to_path
from pipeline.io.yaml_files import parse_yaml

CARD = "README.md"
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# Parts of a pattern: any folders, any names of folders, any characters of a name, one of them.
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_WILDCARD = re.compile(r"(\*\*/|\*\*|\*|\?)")


@dataclass(frozen=True)
class CardConfig:
    """A configuration, and the files of its splits."""

    name: str
    is_default: bool
    files: tuple[tuple[str, re.Pattern[str]], ...]
    """Split, empty if unknown, and the pattern of its files below the root."""

    def split_of(self, name: str) -> str | None:
        """Return the split of a file, empty if unknown; None if it is no file of this configuration."""
        return next((split for split, pattern in self.files if pattern.fullmatch(name)), None)


def read_card_configs(tree: FolderTree) -> list[CardConfig]:
    """Return the configurations of a dataset; none without a card, or if it lists none that can be read.

    Raises:
        OSError: the card cannot be read.
    """
    if CARD not in tree.list("").files:
        return []
    match = _FRONT_MATTER.match(to_path(tree.path(CARD)).read_bytes().decode("utf-8-sig", "replace"))
    if match is None:
        return []
    with suppress(UserError):  # a page for people, which may be anything
        return _configs(parse_yaml(match[1], CARD).get("configs"))
    return []


def _configs(values: Any) -> list[CardConfig]:
    found = [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    configs = []
    for value in found:
        name = str(value.get("config_name", "default"))
        folder = str(value.get("data_dir") or "").removeprefix("./").strip("/")
        base = f"{folder}/" if folder and folder != "." else ""
        files = tuple(
            (split, _pattern(base + path)) for split, path in _data_files(value.get("data_files", "**"))
        )
        configs.append(CardConfig(name, value.get("default") is True, files))
    if not any(config.is_default for config in configs):
        # As `datasets` does: the only one, or that of this name.
        configs = [
            CardConfig(config.name, len(configs) == 1 or config.name == "default", config.files)
            for config in configs
        ]
    return configs


def _data_files(value: Any, split: str = "") -> Iterator[tuple[str, str]]:
    """Yield split and path of a text, a list of texts, `{split: …, path: …}`, or `{<split>: …}`."""
    if isinstance(value, str):
        yield split, value.removeprefix("./")
    elif isinstance(value, list):
        for item in value:
            yield from _data_files(item, split)
    elif isinstance(value, dict) and "path" in value:
        yield from _data_files(value["path"], str(value.get("split") or split))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _data_files(item, str(name))


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("".join(_WILDCARDS.get(part, re.escape(part)) for part in _WILDCARD.split(path)))

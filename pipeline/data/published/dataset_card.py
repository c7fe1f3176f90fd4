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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.data.clips import normalize_id, shown, shown_list
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FolderTree
from pipeline.io.read_once import open_binary
from pipeline.io.storage import to_path
from pipeline.io.text import plural
from pipeline.io.yaml_files import parse_yaml

CARD = "README.md"
# Configurations that a message lists: multilingual datasets have one for each of a hundred languages.
_SHOWN_CONFIGS = 30
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(.*?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
# Parts of a pattern: any folders, any names of folders, any characters of a name, one of them; and one of
# those in brackets. As in `datasets`, which uses fsspec, braces (`{a,b}`) are characters like others.
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_WILDCARD = re.compile(r"(\*\*/|\*\*|\*|\?|\[!?+\]?+[^\]/]*\])")


class SplitFiles(NamedTuple):
    """Files of a split that a card lists."""

    split: str
    """Name of the split, empty if unknown."""
    path: str
    """Path with wildcards below the root, as in the card."""
    pattern: re.Pattern[str]
    """The same as a regular expression."""


@dataclass(frozen=True)
class CardConfig:
    """A configuration, and the files of its splits."""

    name: str
    is_default: bool
    files: tuple[SplitFiles, ...]

    def splits_of(self, name: str) -> list[str]:
        """Return the splits of a file, in the card's order; none if it is no file of this configuration."""
        name = normalize_id(name)
        return [files.split for files in self.files if files.pattern.fullmatch(name)]


def read_card_configs(tree: FolderTree) -> list[CardConfig]:
    """Return the configurations of a dataset; none without a card, or if it lists none that can be read.

    Raises:
        OSError: the card cannot be read.
    """
    if CARD not in tree.list("").files:
        return []
    with open_binary(to_path(tree.path(CARD))) as file:
        match = _FRONT_MATTER.match(file.read().decode("utf-8-sig", "replace"))
    if match is None:
        return []
    with suppress(UserError):  # a page for people, which may be anything
        return _configs(parse_yaml(match[1], CARD).get("configs"))
    return []


def check_config(configs: Sequence[CardConfig], name: str | None, data: str) -> None:
    """Check that a configuration is one of those of the card; `data` is flag and folder, for messages.

    Raises:
        UserError: it is not.
    """
    if name is None or any(config.name == name for config in configs):
        return
    if not configs:
        raise UserError(
            f"{data}: --data-config {name} needs a dataset card ({CARD} with `configs`), and this folder has "
            "none: leave it out"
        )
    raise UserError(f"{data}: --data-config {name}: {CARD} lists {_listed(configs)}; choose one of these")


def check_no_config(name: str | None, data: str) -> None:
    """Check that no configuration is chosen for data that has no dataset card.

    Raises:
        UserError: one is.
    """
    if name is not None:
        raise UserError(f"{data}: --data-config {name} is for a folder with a dataset card: leave it out")


def choose_config(
    usable: Sequence[CardConfig], name: str | None, data: str, warnings: list[str]
) -> CardConfig | None:
    """Return the configuration to read: that of a name, the default, or the only one; None without any.

    Args:
        usable: configurations that have files.
        name: name of a configuration of the card.
        data: flag and folder, for messages.
        warnings: gets a warning if the default was chosen among several.

    Raises:
        UserError: that of the name has no files, or there are several and none is the default.
    """
    if name is not None:
        chosen = next((config for config in usable if config.name == name), None)
        if chosen is None:
            raise no_files_error(name, data, usable)
        return chosen
    if not usable:
        return None
    default = next((config for config in usable if config.is_default), None)
    if len(usable) == 1:
        return usable[0]
    if default is None:
        raise UserError(
            f"{data}: {CARD} lists {_listed(usable)}, none of them as the default: choose one, such as "
            f"--data-config {usable[0].name}"
        )
    others = [config.name for config in usable if config is not default]
    warnings.append(
        f"reading configuration {shown(default.name)}, the default in {CARD}, not {shown_list(others)}; "
        "--data-config reads another"
    )
    return default


def no_files_error(name: str, data: str, usable: Sequence[CardConfig] = ()) -> UserError:
    """Return the error that a configuration has no files; `usable` are those that have some."""
    others = f"; choose one of {_listed(usable)}" if usable else ""
    return UserError(f"{data}: --data-config {name}: no audio files that {CARD} lists for it{others}")


def _listed(configs: Sequence[CardConfig]) -> str:
    names = shown_list((config.name for config in configs), _SHOWN_CONFIGS)
    return f"{plural(len(configs), 'configuration')} ({names})"


def _configs(values: Any) -> list[CardConfig]:
    found = [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    configs = []
    for value in found:
        name = str(value.get("config_name", "default"))
        folder = str(value.get("data_dir") or "").removeprefix("./").strip("/")
        base = f"{folder}/" if folder and folder != "." else ""
        files = tuple(
            SplitFiles(split, base + path, _pattern(base + path))
            for split, path in _data_files(value.get("data_files", "**"))
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
    path = normalize_id(path)
    return re.compile("".join(map(_expression, _WILDCARD.split(path))))


def _expression(part: str) -> str:
    """Return a part of a pattern, as `_WILDCARD` splits it, as a regular expression."""
    if part.startswith("[") and _WILDCARD.fullmatch(part):
        return _one_of(part[1:-1])
    return _WILDCARDS.get(part, re.escape(part))


def _one_of(characters: str) -> str:
    """Return the expression of one of the characters or ranges in brackets, or with `!` of any other one."""
    ranges = re.findall(r".-.|.", characters.removeprefix("!"), re.DOTALL)
    # A range whose end is before its start has no characters.
    texts = ["-".join(map(re.escape, text[::2])) for text in ranges if text[0] <= text[-1]]
    if characters.startswith("!"):
        return f"[^/{''.join(texts)}]"
    return f"[{''.join(texts)}]" if texts else "(?!)"

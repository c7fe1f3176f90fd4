"""YAML files as people mean them: by the rules of YAML 1.2, and without keys that are given twice.

PyYAML reads YAML 1.1, in which `1e-3` is a text, `no` and `off` are booleans, `12:30` is a number, `010` is
eight and `2024-01-01` is a date.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pipeline.io.errors import UserError

# Values without quotes that are not texts, by tag: pattern, and characters that they start with.
_RESOLVERS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    # Digits after a zero, such as a phone number or the id 007, are a text.
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "merge": (r"<<", "<"),
}


def _implicit_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return PyYAML's table of the tags that a value may have, by its first character."""
    resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, (pattern, characters) in _RESOLVERS.items():
        for character in characters:
            entry = (f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"))
            resolvers.setdefault(character.replace("\0", ""), []).append(entry)
    return resolvers


class _Loader(yaml.SafeLoader):
    """Reads YAML 1.2 and refuses keys that are given twice."""

    yaml_implicit_resolvers = _implicit_resolvers()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping; raise `ConstructorError` for a key that is given twice."""
        keys: list[Any] = []
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            keys.append(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes texts that are something else by the rules of either version."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own interface)
        character: yaml.SafeDumper.yaml_implicit_resolvers.get(character, [])
        + _Loader.yaml_implicit_resolvers.get(character, [])
        for character in yaml.SafeDumper.yaml_implicit_resolvers | _Loader.yaml_implicit_resolvers
    }


def read_yaml(path: Path, flag: str) -> dict[str, Any]:
    """Read a YAML mapping; `flag` is the command-line flag that names the file, for error messages.

    Raises:
        UserError: no such file, not UTF-8, invalid YAML, a key that is given twice, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{flag} {path}: no such file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return parse_yaml(text, f"{flag} {path}")


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Return a YAML mapping; `name` is that of its file in error messages.

    Raises:
        UserError: invalid YAML, a key that is given twice, or not a mapping.
    """
    try:
        values = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name}: invalid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{name}: must be a mapping of keys to values, not a {type(values).__name__}")
    if texts := [key for key in values if not isinstance(key, str)]:
        raise UserError(f"{name}: the key {texts[0]!r} is not a name")
    return values


def yaml_text(values: dict[str, Any]) -> str:
    """Return values as YAML that `read_yaml` reads as they are."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None)

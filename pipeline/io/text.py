"""Text of messages: numbers with their nouns, and the first of many messages."""

from __future__ import annotations


def plural(count: float, noun: str) -> str:
    """Return a number and its noun, such as `1 node`, `2 nodes`, `0.5 GPU` or `3 classes`."""
    number = f"{count:g}" if isinstance(count, float) else str(count)
    ending = "" if 0 < count <= 1 else "es" if noun.endswith(("s", "x")) else "s"
    return f"{number} {noun}{ending}"


def first_messages(messages: list[str], limit: int = 5) -> list[str]:
    """Return the first of several messages of one kind, and one with the number of the others."""
    others = len(messages) - limit
    return messages if others <= 0 else [*messages[:limit], f"… and {others:,} more like the one before"]

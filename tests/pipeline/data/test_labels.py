"""Classes in texts of lists, as tables have them."""

from __future__ import annotations

import pytest

from pipeline.data.labels import is_list_text, parse_label_list

LISTS = [
    ("['dog', 'cat']", ["cat", "dog"]),
    ('["dog", "cat"]', ["cat", "dog"]),
    ("['dog' 'cat']", ["cat", "dog"]),  # an array of NumPy, as pandas writes it
    ("['dog'\n 'sea waves']", ["dog", "sea waves"]),
    ("('dog', 'cat')", ["cat", "dog"]),
    ("('dog',)", ["dog"]),
    ("{'dog', 'cat'}", ["cat", "dog"]),
    ("""['dog\\'s', "it's"]""", ["dog's", "it's"]),
    ("['dog;cat']", ["cat", "dog"]),
    ("[ 'dog' , ]", ["dog"]),
    ("[]", []),
    ("[10, 9]", ["10", "9"]),
    ("[ 1 22\n 3]", ["1", "22", "3"]),
    ("[1]", ["1"]),
    ("[1.0, -2.5,]", ["-2.5", "1.0"]),
    ('{"choices": ["dog", "cat"]}', ["cat", "dog"]),  # several answers in Label Studio
]


@pytest.mark.parametrize(("text", "names"), LISTS)
def test_lists_are_read(text: str, names: list[str]) -> None:
    assert is_list_text(text)
    assert parse_label_list(f" {text} ") == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("dog", ["dog"]),
        ("dog;cat", ["cat", "dog"]),
        ("dog,cat", ["cat", "dog"]),
        ("dog | cat", ["cat", "dog"]),
        ("cat, big|dog", ["cat, big", "dog"]),
        ("cat, big; dog|wolf", ["cat, big", "dog|wolf"]),
        ("(rain)", ["(rain)"]),
        ("{rain}", ["{rain}"]),
        ("'dog'", ["'dog'"]),
        ("()", ["()"]),
        ("(1)", ["(1)"]),
        ("1, 2", ["1", "2"]),
    ],
)
def test_other_texts_are_names(text: str, names: list[str]) -> None:
    assert not is_list_text(text)
    assert parse_label_list(text) == names


@pytest.mark.parametrize(
    "text",
    ["[dog]", "['dog", "['dog', 1]", "[1, dog]", "[1-2]", "[,1]", "[1.]", "['dog' + 'cat']", r"['\x']"],
)
def test_brackets_without_texts_are_refused(text: str) -> None:
    assert not is_list_text(text)
    with pytest.raises(ValueError, match="is not a list of class names"):
        parse_label_list(text)


def test_long_texts_are_read_in_linear_time() -> None:
    assert not is_list_text("[" + "'dog' " * 20_000 + " " * 20_000)
    assert parse_label_list("[" + "'dog' " * 20_000 + "]") == ["dog"]
    assert not is_list_text("[" + "1 " * 20_000 + " " * 20_000 + "x]")
    assert not is_list_text("[" + "1" * 40_000 + "x]")
    assert parse_label_list("[" + "1 " * 20_000 + "]") == ["1"]

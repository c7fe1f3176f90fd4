"""Invalid settings raise a one-line error that names the key, its value and a hint; valid ones are frozen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from models.config import Config, ConfigError
from pipeline.io.storage import PathOrURI


class Inner(Config):
    depth: int = Field(1, ge=1, le=9)
    kind: str = "plain"


class Base(Config):
    seed: int = 42


class Outer(Base):
    inner: Inner = Inner()
    rate: float = Field(0.5, ge=0, le=1)
    out: PathOrURI = Path("out")
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rat": 0.1}, "unknown key 'rat'; did you mean 'rate'?"),
        ({"sede": 1}, "unknown key 'sede'; did you mean 'seed'?"),
        ({"zzzz": 1}, "unknown key 'zzzz'; known keys: inner, names, out, rate, seed"),
        ({"inner": {"dept": 2}}, "unknown key 'inner.dept'; did you mean 'depth'?"),
        ({"inner": {"rate": 2}}, "unknown key 'inner.rate'; known keys: depth, kind"),
        ({"rate": 1.5}, "'rate' = 1.5: input should be less than or equal to 1"),
        ({"inner": {"depth": 0}}, "'inner.depth' = 0: input should be greater than or equal to 1"),
        (
            {"seed": "x"},
            "'seed' = 'x': input should be a valid integer, unable to parse string as an integer",
        ),
        ({"names": ["a", [3]]}, "'names.1' = [3]: input should be a valid string"),
        ({"inner.depth": 2}, "unknown key 'inner.depth'; nest it: inner: {depth: …}"),
        ({"rate": None}, "'rate' = None: input should be a valid number"),
        (
            {"rate": -1, "sed": 0},
            "'rate' = -1: input should be greater than or equal to 0; "
            "unknown key 'sed'; did you mean 'seed'?",
        ),
    ],
)
def test_invalid_values_raise_one_line_error(values: dict, message: str):
    with pytest.raises(ConfigError) as constructed:
        Outer(**values)
    assert str(constructed.value) == message
    with pytest.raises(ConfigError) as parsed:
        Outer.parse(values, "conf/a.yaml")
    assert str(parsed.value) == f"conf/a.yaml: {message}"
    assert "\n" not in message


def test_missing_value_is_named():
    class Required(Config):
        data: PathOrURI

    with pytest.raises(ConfigError, match=r"^'data': field required$"):
        Required()


def test_credentials_of_uri_are_not_shown():
    class Required(Config):
        data: PathOrURI

    with pytest.raises(ConfigError, match=r"^'data' = 's3:/+bucket/x\?…': credentials in a URI") as error:
        Required(data="s3://bucket/x?secret_key=sesame")
    assert "sesame" not in str(error.value)


def test_defaults_are_validated():
    class Invalid(Config):
        rate: float = Field(2.0, le=1)

    with pytest.raises(ConfigError, match=r"'rate' = 2\.0: "):
        Invalid()


def test_config_is_frozen_and_hashable():
    config = Outer()
    with pytest.raises(ValidationError, match="frozen"):
        config.rate = 0.1
    assert hash(config) == hash(Outer()) and config == Outer() and config != Outer(rate=0.1)


def test_relative_path_becomes_absolute_on_construction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = Outer(out="runs/a")
    os.chdir("/")
    assert config.out == tmp_path / "runs/a"
    assert Outer(out="/x/y").out == Path("/x/y")
    monkeypatch.chdir(tmp_path)
    assert Outer().out == tmp_path / "out"


def test_to_dict_is_json_and_parses_back():
    config = Outer(inner=Inner(depth=3), names=("a",), out="/x")
    values = json.loads(json.dumps(config.to_dict()))
    assert values == {
        "seed": 42,
        "inner": {"depth": 3, "kind": "plain"},
        "rate": 0.5,
        "out": "/x",
        "names": ["a"],
    }
    assert Outer.parse(values) == config


def test_subset_returns_inherited_settings():
    assert Outer(seed=7, rate=0.1).subset(Base) == Base(seed=7)


def test_with_overrides_sets_dotted_keys_and_validates():
    config = Outer(rate=0.1)
    assert config.with_overrides({"inner.depth": 3, "seed": 7}) == Outer(
        rate=0.1, inner=Inner(depth=3), seed=7
    )
    assert config == Outer(rate=0.1)
    with pytest.raises(ConfigError, match=r"'inner\.depth' = 0: "):
        config.with_overrides({"inner.depth": 0})
    with pytest.raises(ConfigError, match=r"unknown key 'inner\.dept'; did you mean 'depth'"):
        config.with_overrides({"inner.dept": 3})


class Typed(Config):
    count: int | None = 1
    pair: tuple[int, int] | None = (1, 2)
    flag: bool = False
    text: str | None = ""
    rate: float = 0.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"count": "none"}, {"count": None}),
        ({"count": "Null", "pair": "~"}, {"count": None, "pair": None}),
        ({"text": "none"}, {"text": "none"}),
        ({"text": 7}, {"text": "7"}),
        ({"count": 3.0}, {"count": 3}),
        ({"count": "3.0", "rate": "1e-3"}, {"count": 3, "rate": 0.001}),
        ({"flag": "yes"}, {"flag": True}),
        ({"flag": "off"}, {"flag": False}),
    ],
)
def test_texts_are_read_as_the_type_of_field(values: dict, expected: dict):
    config = Typed(**values)
    assert {name: getattr(config, name) for name in expected} == expected
    with pytest.raises(ConfigError, match="should be a valid"):
        Typed(count="three")

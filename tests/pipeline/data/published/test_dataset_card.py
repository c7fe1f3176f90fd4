"""Patterns of a dataset card: the files that they match are those of fsspec, which `datasets` uses."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from pipeline.data.published.dataset_card import read_card_configs
from pipeline.io.folder_tree import open_tree

FILES = (
    "a.wav",
    "data/train-0.wav",
    "data/train-12.wav",
    "data/train-x.wav",
    "data/train-].wav",
    "data/train--.wav",
    "data/train-^.wav",
    "data/train-!.wav",
    "data/train-{0,x}.wav",
    "data/train-[0].wav",
    "data/deep/train-1.wav",
)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("data/train-[0-9]*.wav", 2),
        ("data/train-[0-9].wav", 1),
        ("data/train-[!0-9].wav", 5),
        ("data/train-[!0-9]*.wav", 7),
        ("data/train-[a-z0].wav", 2),
        ("data/train-[z-a].wav", 0),
        ("data/train-[]^].wav", 2),
        ("data/train-[!]^].wav", 4),
        ("data/train-[-x].wav", 2),
        ("data/train-[^0].wav", 2),
        ("data/train-[[]0].wav", 1),
        ("data/train-[!.wav", 0),
        ("data/train-{0,x}.wav", 1),
        ("data[!a]train-0.wav", 0),
        ("data/*/train-[0-9].wav", 1),
        ("**/train-[0-9].wav", 2),
        ("**", 11),
        ("?.wav", 1),
        ("data/[dx]eep/*", 1),
    ],
)
def test_pattern_matches_the_files_that_fsspec_finds(pattern: str, count: int, tmp_path: Path) -> None:
    for name in FILES:
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    card = f"---\nconfigs:\n- {{config_name: x, data_files: '{pattern}'}}\n---\n"
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    (config,) = read_card_configs(open_tree(tmp_path))
    root = tmp_path / "files"
    found = {
        str(Path(path).relative_to(root))
        for path in fsspec.filesystem("file").glob(f"{root}/{pattern}")
        if Path(path).is_file()
    }
    assert {name for name in FILES if config.splits_of(name)} == found
    assert len(found) == count

"""Additional training rows: none twice, none of an evaluated clip by id, recording, audio or generator."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.extra_rows import append_extra_rows, check_extra_shards, extra_warnings, trainable_rows
from pipeline.data.rows import Rows, read_rows
from pipeline.data.split import split_rows
from pipeline.data.split_config import SplitConfig
from pipeline.data.split_record import GENERATOR_SPLIT_NAME, SPLIT_NAME, split_record, write_split_record
from pipeline.io.errors import UserError
from tests.helpers.rows import make_rows

ROWS = make_rows({"a": [2] * 5, "b": [2] * 5})
SPLIT = split_rows(ROWS, SplitConfig())


def others(**columns: object) -> Rows:
    """Return the two rows of a recording that is in no other dataset, with other values in some columns."""
    rows = make_rows({"a": [2], "b": [2]})
    unique = {"clip_id": "new/", "group": "new-", "split_group": "new-"}
    for column, prefix in unique.items():
        rows.table[column] = prefix + rows.table[column]
    rows.table["content"] += 1000
    for column, value in columns.items():
        rows.table.loc[0, column] = value
    return rows


@pytest.mark.parametrize("column", ["clip_id", "group", "content"])
def test_extra_rows_of_evaluated_clips_are_excluded(column: str) -> None:
    evaluated = ROWS.table[column].iloc[SPLIT.val[0]]
    trained = ROWS.table[column].iloc[SPLIT.train[0]]
    for value, expected in ((trained, [20, 21, 22, 23]), (evaluated, [21, 22, 23])):
        extra = others(**{column: value, "strength": 0.5})
        labels, split = append_extra_rows(ROWS, SPLIT, [extra])
        assert split.train.tolist() == [*SPLIT.train, *expected]
        assert labels[20:].tolist() == [0, 0, 1, 1]
        assert np.array_equal(split.val, SPLIT.val)


def test_silent_clips_are_not_the_same_clip() -> None:
    rows = make_rows({"a": [2] * 5, "b": [2] * 5})
    rows.table["content"] = 0
    _, split = append_extra_rows(rows, SPLIT, [others(content=0)])
    assert len(split.train) == len(SPLIT.train) + 4


def test_rows_with_same_audio_augmentation_and_class_are_added_once() -> None:
    trained = {"content": ROWS.table["content"].iloc[SPLIT.train[0]], "label": "a"}
    _, split = append_extra_rows(ROWS, SPLIT, [others(**trained), others()])
    assert split.train.tolist() == [*SPLIT.train, 21, 22, 23, 24]
    for difference in ({"copy": 3}, {"strength": 0.5}, {"augmentation": "noise"}, {"label": "b"}):
        (mask,) = trainable_rows(ROWS, SPLIT, [others(**(trained | difference))])
        assert mask.all()


def warnings_of(shards: Path, dataset: Rows, extra: Rows, **config: Any) -> list[str]:
    split = split_rows(dataset, SplitConfig(**config))
    (trainable,) = trainable_rows(dataset, split, [extra])
    return extra_warnings(shards, dataset, split, extra, trainable)


def test_excluded_rows_are_reported_with_example(shards: Path) -> None:
    rows = read_rows(shards)
    split = split_rows(rows, SplitConfig())
    other = Rows(rows.class_names, rows.table.copy())
    other.table.loc[split.train, "strength"] += 1
    (warning,) = warnings_of(shards, rows, other)
    assert f"--extra-shards {shards}: " in warning
    assert f"{2 * len(split.val)} of 60 rows are not trained on" in warning  # each clip has a copy
    with pytest.raises(UserError, match="all of its rows are of clips that are validated or held out"):
        warnings_of(shards, rows, Rows(rows.class_names, rows.table.iloc[split.val]))


def test_rows_of_another_dataset_are_reported_with_example(shards: Path) -> None:
    """Those of the same audio, extracted from other files, have other ids."""
    rows = read_rows(shards)
    other = Rows(rows.class_names, rows.table.assign(clip_id="moved/" + rows.table["clip_id"]))
    with pytest.raises(UserError, match=f"--extra-shards {shards}: --shards and .* twice: leave it out"):
        warnings_of(shards, rows, other, val_fraction=0.0)
    other.table.loc[10:, "augmentation"] = "of another seed"
    (warning,) = warnings_of(shards, rows, other, val_fraction=0.0)
    assert re.search("10 of 60 rows are not trained on, because --shards .*, such as 'moved/", warning)


@pytest.fixture
def generated(shards: Path, tmp_path: Path) -> Path:
    """Return a dataset that a generator in `tmp_path/gan` is said to have made."""
    folder = tmp_path / "generated"
    shutil.copytree(shards, folder)
    manifest = json.loads((folder / "_manifest.json").read_text(encoding="utf-8"))
    manifest["source"] = {"generator": str(tmp_path / "gan")}
    (folder / "_manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.mark.parametrize("recorded_in", ["generated", "gan"])
@pytest.mark.parametrize("fold", [1, 2])
def test_generator_trained_on_held_out_clips_is_refused(
    shards: Path, generated: Path, recorded_in: str, fold: int, tmp_path: Path
) -> None:
    rows = read_rows(shards)
    gan_split = split_rows(rows, SplitConfig(fold=2, val_fraction=0.0))
    name = GENERATOR_SPLIT_NAME if recorded_in == "generated" else SPLIT_NAME
    (tmp_path / recorded_in).mkdir(exist_ok=True)
    write_split_record(tmp_path / recorded_in / name, split_record(rows, gan_split))
    if fold == 2:
        assert warnings_of(generated, rows, others(), fold=fold, val_fraction=0.0) == []
        return
    with pytest.raises(UserError, match=r"its generator .*/gan was trained on 6 of the 6 clips.*--fold"):
        warnings_of(generated, rows, others(), fold=fold, val_fraction=0.0)


def test_generator_without_record_is_a_warning(shards: Path, generated: Path) -> None:
    (warning,) = warnings_of(generated, read_rows(shards), others())
    assert "cannot check that its generator was not trained on clips" in warning


def test_empty_extra_shards_are_named_by_their_flag(shards: Path, generated: Path) -> None:
    manifest = json.loads((generated / "_manifest.json").read_text(encoding="utf-8"))
    manifest |= {"rows": 0, "clips": 0, "shards": [], "class_names": []}
    (generated / "_manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UserError, match=r"^--extra-shards .*generated: no generated clip reached --min"):
        check_extra_shards(shards, [generated])
    with pytest.raises(UserError, match=r"^--extra-shards .*nowhere: no such folder"):
        check_extra_shards(shards, [generated.parent / "nowhere"])

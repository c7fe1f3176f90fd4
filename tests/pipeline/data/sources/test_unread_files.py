"""Folders whose audio is inside files of other kinds: what is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.manifest import read_manifest
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import touch


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("shard-0000.tar", "an archive: unpack it"),
        ("audio/part.zip", "an archive: unpack it"),
        (
            "set/train/data-00000-of-00001.arrow",
            "an Arrow file of Hugging Face datasets (save_to_disk)",
        ),
        ("x_train.npy", "a file of arrays: write the sounds in it as audio files, such as WAV"),
    ],
)
def test_file_that_may_have_the_audio_is_named(name: str, hint: str, tmp_path: Path):
    touch(tmp_path, name, "README.md")
    for reader in (read_manifest, read_unlabeled):
        with pytest.raises(UserError) as error:
            reader(tmp_path)
        assert "no audio files found" in str(error.value) and f"; '{name}' is {hint}" in str(error.value)


def test_other_files_are_not_named(tmp_path: Path):
    touch(tmp_path, "README.md", ".hidden.zip", "a/b/c/d.zip")
    with pytest.raises(UserError) as error:
        read_manifest(tmp_path)
    assert "unpack" not in str(error.value)

"""Parquet files with audio in them: one line that names them, and documented lines that unpack them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.data.manifest import read_manifest, read_unlabeled
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path
from tests.helpers.hub_server import HubServer
from tests.helpers.sounds import RATE, tone, write_shards

ROOT = Path(__file__).parents[4]
NAMES = ("dog", "rain")


def write_dataset(folder: Path, *files: str) -> Path:
    """Write Parquet files with four clips each, as Hugging Face `datasets` does."""
    folder.mkdir(parents=True)
    soundfile.write(folder / "x.wav", tone(440, 0.1), RATE)
    content = (folder / "x.wav").read_bytes()
    (folder / "x.wav").unlink()
    rows = [{"audio": {"bytes": content, "path": f"{i}.wav"}, "label": i % 2} for i in range(4)]
    features = {"audio": {"_type": "Audio"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(metadata), folder / name)
    return folder


@pytest.mark.parametrize(
    "files",
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet"),
    ],
)
def test_folder_with_audio_in_parquet_is_named(files: tuple[str, ...], tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", *files)
    for read, flag in ((read_manifest, "--data"), (read_unlabeled, "--audio")):
        with pytest.raises(UserError) as error:
            read(data)
        text = str(error.value)
        assert text.startswith(f"{flag} {data}: no audio files, but 2 Parquet files with the audio inside")
        assert "column 'audio'" in text and "docs/data-format.md" in text and "\n" not in text
        with pytest.raises(UserError, match=r"but 1 Parquet file with the audio inside"):
            read(data / files[0])


def test_dataset_on_hub_is_named(empty_hub: HubServer) -> None:
    write_dataset(empty_hub.root / "me/parquet", "data/train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"^--data hf://.*but 1 Parquet file with the audio inside"):
        read_manifest(to_path("hf://datasets/me/parquet"))


def test_other_parquet_files_are_not_named(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, classes=2, clips=2)
    (tmp_path / "tables").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "tables/x.parquet")
    (tmp_path / "tables/y.parquet").write_bytes(b"no Parquet")
    for folder in (shards, tmp_path / "tables"):
        with pytest.raises(UserError, match=r"no audio files found"):
            read_manifest(folder)


def test_documented_lines_write_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test.parquet"
    write_dataset(tmp_path / "downloaded", *names)
    text = (ROOT / "docs/data-format.md").read_text()
    lines = re.search(r"### Audio in Parquet files.*?```python\n(.*?)```", text, re.DOTALL)
    assert lines is not None
    monkeypatch.chdir(tmp_path)
    exec(lines[1], {})
    manifest = read_manifest(tmp_path / "clips")
    assert manifest.class_counts == {"dog": 4, "rain": 4}
    assert "dog/train-00000-of-00002-0-0.wav" in set(manifest.clips["clip_id"])

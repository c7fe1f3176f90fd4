"""Datasets on the Hugging Face hub as input of `extract`: layouts, revisions, tokens, number of requests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.data.shards import read_shard
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import extract
from pipeline.io.errors import UserError
from tests.helpers.hub_server import TOKEN, HubServer
from tests.helpers.parquet_audio import clip, write_parquet
from tests.helpers.sounds import extract_config, write_tones


@pytest.fixture
def hub(empty_hub: HubServer) -> HubServer:
    """Return a hub with the dataset `me/tones`: twelve clips in class folders."""
    write_tones(empty_hub.root / "me/tones", clips=4)
    return empty_hub


def mels(data: Path | str, out: Path) -> dict[str, bytes]:
    """Extract a dataset; return the spectrograms by label and name of the file."""
    manifest = extract(extract_config(data, out, copies=0), run_in_process)  # type: ignore[arg-type]
    rows = [row for shard in manifest.shards for row in read_shard(out / shard.name).to_pylist()]
    return {f"{row['label']}/{Path(row['path']).name}": row["mel"] for row in rows}


def test_class_folders_equal_local_bit_for_bit(hub: HubServer, tmp_path: Path) -> None:
    remote = mels("hf://datasets/me/tones", tmp_path / "remote")
    # Of the listings, one is complete; two are tests for a folder.
    assert hub.requests == {"resolve": 12, "tree": 3}
    assert remote == mels(hub.root / "me/tones", tmp_path / "local") and len(remote) == 12


def test_revision_and_folder_are_read(hub: HubServer, tmp_path: Path) -> None:
    write_tones(hub.root / "me/tones@v1/deep", classes=2, clips=2)
    found = mels("hf://datasets/me/tones@v1/deep", tmp_path / "shards")
    assert len(found) == 4 and {name.partition("/")[0] for name in found} == {"tone 0", "tone 1"}


def test_table_of_audio_folder_is_recognized(hub: HubServer, tmp_path: Path) -> None:
    local = hub.root / "me/tones"
    table = {path.name: path.parent.name for path in sorted(local.rglob("*.wav"))}
    folder = hub.root / "me/flat"
    (folder / "clips").mkdir(parents=True)
    for path in local.rglob("*.wav"):
        shutil.copy(path, folder / "clips")
    rows = "".join(f"clips/{name},{label}\n" for name, label in table.items())
    (folder / "metadata.csv").write_text(f"file_name,label\n{rows}")
    found = mels("hf://datasets/me/flat", tmp_path / "remote")
    assert found == mels(local, tmp_path / "local")
    # One for each clip, and one for the table; the others are for some files that it lists.
    assert hub.requests["resolve"] == 12 + 1 and hub.requests["paths-info"] <= 10
    assert hub.requests["tree"] <= 4
    assert mels("hf://datasets/me/flat/metadata.csv", tmp_path / "table") == found


def test_configuration_of_the_card_is_read(hub: HubServer, tmp_path: Path) -> None:
    folder = hub.root / "me/parquet"
    rows = [{"audio": {"bytes": clip(i), "path": f"1-{i}-x.wav"}, "label": i % 2} for i in range(4)]
    for name in ("en", "de"):
        write_parquet(folder / name / "0000.parquet", rows)
    configs = "- {config_name: en, data_files: en/*, default: true}\n- {config_name: de, data_files: de/*}"
    card = f"---\nconfigs:\n{configs}\n---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    found = mels("hf://datasets/me/parquet", tmp_path / "remote")
    assert len(found) == 4 and found == mels(folder / "en", tmp_path / "local")


def test_private_dataset_is_read_with_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.private.add("me/tones")
    with pytest.raises(UserError, match=r"^hf://datasets/me/tones: no such dataset, or private: .*HF_TOKEN"):
        mels("hf://datasets/me/tones", tmp_path / "shards")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(mels("hf://datasets/me/tones", tmp_path / "shards")) == 12


def test_gated_dataset_ends_extraction(hub: HubServer, tmp_path: Path) -> None:
    hub.gated.add("me/tones")  # can be listed, but not read
    with pytest.raises(UserError, match=r"^hf://datasets/me/tones: a gated dataset: .*HF_TOKEN"):
        mels("hf://datasets/me/tones", tmp_path / "shards")
    assert not (tmp_path / "shards/_manifest.json").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("hf://datasets/me/none", "no such dataset"),
        ("hf://datasets/me/tones@v9", r"no such branch, tag or commit \(Invalid rev id: v9\)"),
        ("hf://datasets/me/tones/none", "no such folder or CSV file"),
    ],
)
def test_unusable_uri_is_one_line(uri: str, message: str, hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        mels(uri, tmp_path / "shards")
    assert uri in str(error.value) and "\n" not in str(error.value)

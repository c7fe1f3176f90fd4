"""Names of class folders as BirdNET reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.config import ConfigError
from pipeline.data.annotations.birdnet_folders import birdnet_label
from pipeline.data.manifest import ManifestConfig, read_manifest
from tests.pipeline.data.test_manifest import touch


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("A", "A"),
        ("B,A", "A;B"),
        (" B , A ", "A;B"),
        ("-A", ""),
        ("B,-A", "B"),
        ("Noise", ""),
        ("background", ""),
        ("Other", ""),
        ("silence", ""),
        ("Poecile atricapillus_Black-capped Chickadee", "Poecile atricapillus_Black-capped Chickadee"),
    ],
)
def test_folder_name_has_classes(folder: str, label: str):
    assert birdnet_label(folder) == label


def test_folders_become_multi_label_clips(tmp_path: Path):
    touch(tmp_path, "A/1.wav", "A,B/2.wav", "-A/3.wav", "noise/4.wav", "B/5.wav")
    manifest = read_manifest(tmp_path, ManifestConfig(birdnet_folders=True))
    assert dict(zip(manifest.clips["clip_id"], manifest.clips["label"], strict=True)) == {
        "-A/3.wav": "",
        "A,B/2.wav": "A;B",
        "A/1.wav": "A",
        "B/5.wav": "B",
        "noise/4.wav": "",
    }
    assert manifest.multi_label and manifest.class_counts == {"A": 2, "B": 2}
    assert read_manifest(tmp_path).class_names == ["-A", "A", "A,B", "B", "noise"]


def test_birdnet_folders_and_annotations_exclude_each_other():
    with pytest.raises(ConfigError, match="both give the classes: leave one out"):
        ManifestConfig(annotations="auto", birdnet_folders=True)

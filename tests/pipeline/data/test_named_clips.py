"""Classes in the names of files, as datasets of emotions, machines and instruments have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.config import ConfigError
from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import labels, touch


@pytest.mark.parametrize(
    ("pattern", "classes"),
    [
        # RAVDESS
        (
            r"\d\d-\d\d-(\d\d)-",
            {"Actor_01/03-01-05-01-02-01-01.wav": "05", "Actor_02/03-01-03-01-02-01-02.wav": "03"},
        ),
        # CREMA-D
        (
            "_(ANG|HAP)_",
            {"1001_DFA_ANG_XX.wav": "ANG", "1002_DFA_HAP_LO.wav": "HAP", "more/1003_IEO_HAP_LO.wav": "HAP"},
        ),
        # SAVEE
        (r"/([a-z]+)\d+\.wav$", {"DC/a01.wav": "a", "DC/sa01.wav": "sa", "JE/su01.wav": "su"}),
        # MIMII
        (
            "/(normal|abnormal)/",
            {
                "id_00/normal/0.wav": "normal",
                "id_00/abnormal/0.wav": "abnormal",
                "id_02/normal/0.wav": "normal",
            },
        ),
        # Downloads of Xeno-canto
        (
            " - ([^-]+) - ",
            {"XC1 - Great Tit - Parus major.wav": "Great Tit", "XC2 - Rook - Corvus.wav": "Rook"},
        ),
    ],
)
def test_class_is_in_the_path(pattern: str, classes: dict[str, str], tmp_path: Path):
    touch(tmp_path, *classes)
    manifest = read_manifest(tmp_path, ManifestConfig(label_pattern=pattern))
    assert labels(manifest) == classes
    assert manifest.clips["group"].tolist() == sorted(classes)
    assert not manifest.multi_label


def test_patterns_of_class_and_recording_go_together(tmp_path: Path):
    touch(tmp_path, "a/dog-1.wav", "a/cat-1.wav", "b/dog-2.wav")
    config = ManifestConfig(label_pattern="(dog|cat)", group_pattern=r"-(\d)", multi_label=True)
    manifest = read_manifest(tmp_path, config)
    assert manifest.clips[["label", "group"]].values.tolist() == [["cat", "1"], ["dog", "1"], ["dog", "2"]]
    assert manifest.multi_label


def test_held_out_folders_next_to_a_training_split_are_left_out(tmp_path: Path):
    touch(tmp_path, "fan/train/normal_1.wav", "fan/train/anomaly_2.wav", "fan/test/anomaly_3.wav")
    config = ManifestConfig(label_pattern="(normal|anomaly)")
    manifest = read_manifest(tmp_path, config)
    assert labels(manifest) == {"fan/train/anomaly_2.wav": "anomaly", "fan/train/normal_1.wav": "normal"}
    assert "ignoring 1 recording in folders of other splits ('test')" in manifest.warnings
    assert labels(read_manifest(tmp_path / "fan" / "test", config)) == {"anomaly_3.wav": "anomaly"}


def test_path_without_a_class_is_named(tmp_path: Path):
    touch(tmp_path, "a/1.wav", "a/dog_2.wav")
    with pytest.raises(UserError, match=r"--label-pattern '\(dog\)' does not match path 'a/1.wav'"):
        read_manifest(tmp_path, ManifestConfig(label_pattern="(dog)"))
    with pytest.raises(UserError, match=r"the class in path 'a/1.wav' is empty"):
        read_manifest(tmp_path, ManifestConfig(label_pattern="a/(dog|)"))


def test_other_sources_of_classes_are_refused(tmp_path: Path):
    for other in ({"annotations": "auto", "window": 1.0}, {"label_column": "x"}, {"birdnet_folders": True}):
        with pytest.raises(ConfigError, match=r"--label-pattern and --.* both give the classes"):
            ManifestConfig(label_pattern="(dog)", **other)
    table = touch(tmp_path, "dog.wav") / "clips.csv"
    table.write_text("path,label\ndog.wav,cat\n")
    with pytest.raises(UserError, match=r"clips.csv is a file; pass the folder of the recordings"):
        read_manifest(table, ManifestConfig(label_pattern="(dog)"))


def test_messages_name_the_pattern(tmp_path: Path):
    hint = "if names of files state the classes, add --label-pattern"
    touch(tmp_path, "wav/03a01Fa.wav", "wav/03a01Wa.wav")
    assert read_manifest(tmp_path).warnings[-1].endswith(hint)
    with pytest.raises(UserError, match=f"ignoring 2 audio files outside class folders .*; {hint}"):
        read_manifest(tmp_path / "wav")


def test_folders_that_all_classes_have_are_suggested(tmp_path: Path):
    touch(tmp_path, *(f"id_0{number}/{name}/0.wav" for number in (0, 2) for name in ("normal", "abnormal")))
    (warning,) = read_manifest(tmp_path).warnings
    assert warning == (
        "each class folder has the folders 'abnormal', 'normal': if these are the classes, and 'id_00', "
        "'id_02' are none, add --label-pattern '/(abnormal|normal)/'"
    )
    config = ManifestConfig(label_pattern="/(abnormal|normal)/")
    assert read_manifest(tmp_path, config).class_counts == {"abnormal": 2, "normal": 2}
    touch(tmp_path, "id_04/normal/0.wav", "id_04/normal/1.wav")
    assert not read_manifest(tmp_path).warnings

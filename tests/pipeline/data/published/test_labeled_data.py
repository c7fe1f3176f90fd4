"""Layouts of published datasets: which table and audio folder are recognized, and refusals in one line."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from tests.helpers.object_store import upload_folder
from tests.helpers.s3_server import S3Server
from tests.helpers.sounds import RATE, tone
from tests.pipeline.data.test_manifest import labels


def write(root: Path, table: str, text: str, *sounds: str) -> Path:
    """Write a table and sounds; return their folder."""
    for index, name in enumerate(sounds):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(300 + 50 * index, 0.1), RATE)
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_text(text)
    return root


def test_freesound_layout_is_recognized_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sounds = (
        "FSD.audio_train/a.wav",
        "FSD.audio_train/b.wav",
        "FSD.audio_train/c.wav",
        "FSD.audio_test/a.wav",
    )
    write(tmp_path, "train.csv", "fname,label,manually_verified\na.wav,Bark,1\nb.wav,Cello,0\n", *sounds)
    (tmp_path / "sample_submission.csv").write_text("fname,label\na.wav,Bark\n")
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "melray"):
        manifest = read_manifest(tmp_path)
    logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {
        "data: train.csv (column 'fname' = path, 'label' = label; 2 clips) with audio in FSD.audio_train/"
    }
    assert labels(manifest) == {"a.wav": "Bark", "b.wav": "Cello"}
    assert "1 audio file without a row in train.csv, left out: 'c.wav'" in manifest.warnings
    table = read_manifest(tmp_path / "train.csv")
    assert table.clips.equals(manifest.clips)


def test_esc50_layout_has_folds_and_recordings(tmp_path: Path):
    header = "filename,fold,target,category,esc10,src_file,take"
    text = f"{header}\n1-7-A-0.wav,1,0,dog,True,7,A\n2-8-A-1.wav,2,1,rain,False,8,A\n"
    root = write(tmp_path, "meta/esc50.csv", text, "audio/1-7-A-0.wav", "audio/2-8-A-1.wav")
    clips = read_manifest(root).clips
    assert clips["label"].tolist() == ["dog", "rain"] and clips["fold"].tolist() == [1, 2]
    assert clips["group"].tolist() == ["7", "8"]


@pytest.mark.parametrize(("column", "groups"), [("scene_label", ["lyon-1", "lyon-1"]), ("label", None)])
def test_places_of_acoustic_scenes_are_groups(column: str, groups: list[str] | None, tmp_path: Path):
    """In TAU Urban Acoustic Scenes, clips of one place must be on one side of a split."""
    rows = "audio/bus-lyon-1-0-a.wav\tbus\tlyon-1\ta\naudio/bus-lyon-1-1-a.wav\tbus\tlyon-1\ta\n"
    names = "audio/bus-lyon-1-0-a.wav", "audio/bus-lyon-1-1-a.wav"
    root = write(tmp_path, "meta.csv", f"filename\t{column}\tidentifier\tsource_label\n{rows}", *names)
    assert read_manifest(root / "meta.csv").clips["group"].tolist() == (groups or list(names))


URBAN = """slice_file_name,fsID,start,end,salience,fold,classID,class
7-3-0-0.wav,7,100.5,104.5,1,1,3,dog_bark
8-2-0-0.wav,8,0.0,0.4,1,2,2,children
"""


def test_files_are_found_in_folders_named_as_their_folds(tmp_path: Path):
    text = URBAN.replace(",1,1,3,", ",1,fold1,3,").replace(",1,2,2,", ",1,fold2,2,")
    sounds = "audio/fold1/7-3-0-0.wav", "audio/fold2/8-2-0-0.wav"
    clips = read_manifest(write(tmp_path, "metadata/UrbanSound8K.csv", text, *sounds)).clips
    assert clips["clip_id"].tolist() == ["fold1/7-3-0-0.wav", "fold2/8-2-0-0.wav"]
    assert clips["fold"].tolist() == [1, 2]


@pytest.mark.parametrize("window", [None, 0.1])
def test_urbansound_times_are_no_events(window: float | None, tmp_path: Path):
    sounds = "audio/fold1/7-3-0-0.wav", "audio/fold2/8-2-0-0.wav"
    root = write(tmp_path, "metadata/UrbanSound8K.csv", URBAN, *sounds)
    manifest = read_manifest(root, ManifestConfig(window=window))
    assert labels(manifest) == {"fold1/7-3-0-0.wav": "dog_bark", "fold2/8-2-0-0.wav": "children"}
    assert manifest.events is None and not manifest.multi_label
    assert manifest.clips["group"].tolist() == ["7", "8"]
    assert not [warning for warning in manifest.warnings if "--window" in warning]


@pytest.mark.parametrize("table", ["clips.csv", "meta/metadata.csv"])
def test_times_without_window_are_named(table: str, tmp_path: Path):
    text = "file_name,label,onset,duration\na.wav,dog,3,1\nb.wav,rain,0,1\n"
    folder = "audio" if "/" in table else "."
    root = write(tmp_path, table, text, f"{folder}/a.wav", f"{folder}/b.wav")
    warning = (
        f"--data {root / table}: its columns 'onset', 'duration' are not used without --window: each clip is "
        "of the whole file; add --window SECONDS"
    )
    for data in (root, root / table):
        assert warning in read_manifest(data).warnings
        events = read_manifest(data, ManifestConfig(window=0.1))
        assert events.events is not None and warning not in events.warnings


def test_events_of_a_file_without_window_are_refused(tmp_path: Path):
    root = write(tmp_path, "clips.csv", "path,label,start,end\na.wav,x,0,1\na.wav,y,2,3\n", "a.wav")
    with pytest.raises(UserError, match=r"with times for a file, e.g. 'a.wav': add --window SECONDS to read"):
        read_manifest(root / "clips.csv")
    assert labels(read_manifest(root / "clips.csv", ManifestConfig(multi_label=True))) == {"a.wav": "x;y"}


@pytest.mark.parametrize("header", ["file_name,label,start,note", "file_name,label,length,duration"])
def test_columns_that_are_no_times_of_events_are_not_named(header: str, tmp_path: Path):
    root = write(tmp_path, "clips.csv", f"{header}\na.wav,dog,3,1\nb.wav,rain,0,1\n", "a.wav", "b.wav")
    assert not [warning for warning in read_manifest(root).warnings if "--window" in warning]


BIRDS = """primary_label,secondary_labels,filename
gre,"['blu', 'red']",gre/1.wav
blu,[],blu/2.wav
"""


def test_birdclef_secondary_labels_are_classes(tmp_path: Path):
    root = write(tmp_path, "train_metadata.csv", BIRDS, "train_audio/gre/1.wav", "train_audio/blu/2.wav")
    assert labels(read_manifest(root)) == {"gre/1.wav": "gre", "blu/2.wav": "blu"}
    manifest = read_manifest(root / "train_metadata.csv", ManifestConfig(multi_label=True))
    assert labels(manifest) == {"gre/1.wav": "blu;gre;red", "blu/2.wav": "blu"}


def test_files_in_folders_of_classes_are_found(tmp_path: Path):
    text = "filename,primary_label\n1.wav,gre\n2.wav,blu\n"
    root = write(tmp_path, "train.csv", text, "train_short_audio/gre/1.wav", "train_short_audio/blu/2.wav")
    assert labels(read_manifest(root / "train.csv")) == {"gre/1.wav": "gre", "blu/2.wav": "blu"}


ROWS = [{"file_name": "a.wav", "label": "dog"}, {"file_name": "b.wav", "label": "rain"}]


def write_metadata(folder: Path, ending: str) -> None:
    if ending == "csv":
        (folder / "metadata.csv").write_text("file_name,label\na.wav,dog\nb.wav,rain\n")
    elif ending == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    else:
        names = {"info": {"features": {"label": {"names": ["dog", "rain"], "_type": "ClassLabel"}}}}
        table = pa.table({"file_name": ["a.wav", "b.wav"], "label": [0, 1]})
        metadata = {b"huggingface": json.dumps(names).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), folder / "metadata.parquet")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("split", ["", "train/"])
def test_hugging_face_metadata_gives_labels(ending: str, split: str, tmp_path: Path):
    write(tmp_path, "README.md", "", f"{split}a.wav", f"{split}b.wav", "test/c.wav")
    write_metadata(tmp_path / split, ending)
    assert labels(read_manifest(tmp_path)) == {"a.wav": "dog", "b.wav": "rain"}


def test_rows_in_test_folder_are_held_out(tmp_path: Path):
    text = "file_name,label\ntrain/a.wav,dog\ntrain/b.wav,rain\ntest/c.wav,dog\n"
    manifest = read_manifest(
        write(tmp_path, "metadata.csv", text, "train/a.wav", "train/b.wav", "test/c.wav")
    )
    for read in (manifest, read_manifest(tmp_path / "metadata.csv")):
        assert labels(read) == {"train/a.wav": "dog", "train/b.wav": "rain"}
        assert "ignoring 1 row of other splits ('test': 1)" in read.warnings


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("files", "paths"),
    [
        ("audio/{}", "audio/{}"),  # wherever in the paths of the table in a folder
        ("audio/{}", "{}"),  # files below a folder that the table leaves out
        ("audio/dog/{}", "{}"),  # in the folder of the class, which the table leaves out
        ("{}", "{}"),
    ],
)
@pytest.mark.parametrize("splits", [("train", "test"), ("dev", "eval")])
def test_folders_of_both_splits_divide_wherever_the_files_are(
    splits: tuple[str, str], files: str, paths: str, multi_label: bool, tmp_path: Path
):
    names = [f"{split}/{split}{number}.wav" for split in splits for number in (1, 2)]
    text = "path,label\n" + "".join(f"{paths.format(name)},dog\n" for name in names)
    root = write(tmp_path, "meta/clips.csv", text, *map(files.format, names))
    for data in (root, root / "meta" / "clips.csv"):
        manifest = read_manifest(data, ManifestConfig(multi_label=multi_label))
        assert [Path(path).name for path in manifest.clips["path"]] == [f"{splits[0]}{n}.wav" for n in (1, 2)]
        assert f"ignoring 2 rows of other splits ('{splits[1]}': 2)" in manifest.warnings
        assert not any("without a row" in warning for warning in manifest.warnings)


def test_missing_and_duplicate_files_are_reported(tmp_path: Path):
    write(tmp_path, "train.csv", "fname,label\na.wav,x\nb.wav,y\nc.wav,y\n", "audio/a.wav", "audio/b.wav")
    expected = f"1 of 3 listed files do not exist, e.g. '{tmp_path}/audio/c.wav'"
    assert expected in read_manifest(tmp_path).warnings
    write(tmp_path, "train.csv", "fname,label\na.wav,x\nb.wav,y\nb.wav,y\n")
    with pytest.raises(UserError, match=r"1 duplicate paths, e.g. 'b.wav'"):
        read_manifest(tmp_path)


def test_ambiguous_layouts_are_refused(tmp_path: Path):
    text = "fname,label\na.wav,x\nb.wav,y\n"
    root = write(tmp_path, "train.csv", text, "one/a.wav", "one/b.wav", "two/a.wav", "two/b.wav")
    with pytest.raises(UserError, match=r"audio files are in 'one/', 'two/': .* such as 'one/a.wav' in it"):
        read_manifest(root / "train.csv")
    single = write(tmp_path / "tables", "x.csv", text, "audio/a.wav", "audio/b.wav")
    (single / "y.csv").write_text(text)
    with pytest.raises(UserError, match=r"'x.csv', 'y.csv' all list audio files.* --data .*/x.csv"):
        read_manifest(single)
    unnamed = write(
        tmp_path / "unnamed", "x.csv", "fname,kind\na.wav,x\nb.wav,y\n", "audio/a.wav", "audio/b.wav"
    )
    with pytest.raises(UserError, match=r"name it by --label-column; its columns are 'fname', 'kind'"):
        read_manifest(unnamed)
    assert labels(read_manifest(unnamed, ManifestConfig(label_column="kind"))) == {"a.wav": "x", "b.wav": "y"}
    (unnamed / "x.csv").write_text("fname,genre,instrument\na.wav,x,y\nb.wav,y,x\n")
    with pytest.raises(UserError, match=r"'genre', 'instrument' can be the classes"):
        read_manifest(unnamed)


FSD50K_DEV = """fname,labels,mids,split
1,"Guitar,Music","/m/1,/m/2",train
2,Bark,/m/3,val
3,"Bark,Dog,Animal","/m/3,/m/4,/m/5",train
"""


def write_fsd50k(root: Path) -> Path:
    """Write the layout of FSD50K with three clips in its development set and one in its evaluation set."""
    sounds = [*(f"FSD50K.dev_audio/{number}.wav" for number in (1, 2, 3)), "FSD50K.eval_audio/4.wav"]
    write(root, "FSD50K.ground_truth/dev.csv", FSD50K_DEV, *sounds)
    (root / "FSD50K.ground_truth/eval.csv").write_text("fname,labels,mids\n4,Bark,/m/3\n")
    (root / "FSD50K.ground_truth/vocabulary.csv").write_text("0,Bark,/m/3\n1,Guitar,/m/1\n")
    (root / "FSD50K.metadata/collection").mkdir(parents=True)
    (root / "FSD50K.metadata/collection/collection_dev.csv").write_text("fname,labels,mids\n1,Guitar,/m/1\n")
    (root / "FSD50K.doc").mkdir()
    (root / "FSD50K.doc/README.md").write_text("# FSD50K\n")
    return root


def test_fsd50k_is_read_as_published(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root, config = write_fsd50k(tmp_path), ManifestConfig(multi_label=True)
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "melray"):
        manifest = read_manifest(root, config)
    logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {
        "data: FSD50K.ground_truth/dev.csv (column 'fname' = path, 'labels' = label, 'split' = split; "
        "2 clips) with audio in FSD50K.dev_audio/"
    }
    assert labels(manifest) == {"1": "Guitar;Music", "3": "Animal;Bark;Dog"}
    assert [warning for warning in manifest.warnings if "row" in warning] == [
        "ignoring 1 row of other splits ('val': 1)"
    ]
    table = read_manifest(root / "FSD50K.ground_truth/dev.csv", config)
    assert table.clips.equals(manifest.clips) and table.warnings == manifest.warnings
    with pytest.raises(
        UserError, match=r"dev\.csv: column 'labels' may have several classes .* --multi-label"
    ):
        read_manifest(root)


def test_held_out_folders_without_classes_hint_at_the_table(tmp_path: Path):
    root = write_fsd50k(tmp_path)
    (root / "FSD50K.ground_truth/dev.csv").write_text(FSD50K_DEV.replace(",split", ",part"))
    with pytest.raises(UserError) as error:
        read_manifest(root, ManifestConfig(multi_label=True))
    assert str(error.value) == (
        f"--data {root}: no training split or class folder next to 'FSD50K.dev_audio', 'FSD50K.eval_audio'; "
        f"if 'dev.csv' has the labels, pass --data {root}/FSD50K.ground_truth/dev.csv"
    )


@pytest.mark.parametrize("name", ["b.wav", "b", "./b.wav", "B.WAV", "audio\\b.wav"])
def test_files_of_other_splits_are_not_unlisted(name: str, tmp_path: Path):
    prefix = "audio/" if "\\" in name else ""
    text = f"fname,label,split\n{prefix}a.wav,x,train\n{name},x,test\n{prefix}c.wav,y,train\n"
    root = write(tmp_path, "meta/train.csv", text, "audio/a.wav", "audio/b.wav", "audio/c.wav", "audio/d.wav")
    warnings = read_manifest(root).warnings
    assert "1 audio file without a row in train.csv, left out: 'd.wav'" in [
        warning.replace("audio/", "") for warning in warnings
    ]


def test_converted_files_of_other_splits_are_not_unlisted(tmp_path: Path):
    text = "path,label,split\na.mp3,x,train\nb.mp3,y,train\nc.mp3,y,test\n"
    root = write(tmp_path, "meta/all.csv", text, "audio/a.wav", "audio/b.wav", "audio/c.wav", "audio/d.wav")
    manifest = read_manifest(root)
    assert labels(manifest) == {"a.mp3": "x", "b.mp3": "y"}
    assert "1 audio file without a row in all.csv, left out: 'd.wav'" in manifest.warnings


def test_files_of_other_datasets_are_not_unlisted(server: S3Server, tmp_path: Path):
    """Of a table whose paths begin in the folder above, in which there may be anything."""
    text = "path,label,split\nmine/a.wav,x,train\nmine/b.wav,y,train\nmine/c.wav,y,test\n"
    names = "mine/a.wav", "mine/b.wav", "mine/c.wav", "mine/sub/d.wav", "other/e.wav", "f.wav"
    root = write(tmp_path, "tables/all.csv", text, *names)
    bucket = server.bucket("several")
    upload_folder(root, bucket / "data")
    for folder in (root, bucket / "data"):
        assert read_manifest(folder / "tables" / "all.csv").warnings[:2] == [
            "ignoring 1 row of other splits ('test': 1)",
            "1 audio file without a row in all.csv, left out: 'mine/sub/d.wav'",
        ]


def test_files_of_other_splits_in_annotations_are_not_unlisted(tmp_path: Path):
    text = "fname,label,split\na.wav,x,train\nb.wav,x,test\n"
    root = write(tmp_path, "all.csv", text, "audio/a.wav", "audio/b.wav", "audio/d.wav")
    config = ManifestConfig(multi_label=True, annotations=root / "all.csv")
    warnings = read_manifest(root, config).warnings
    assert "1 audio file without a row in all.csv, left out: 'audio/d.wav'" in warnings


@pytest.mark.parametrize(
    ("columns", "values", "named"),
    [
        ("fold,src_file", "1,7", "'fold', 'src_file'"),
        ("split", "train", "'split'"),
        ("phase,rating", "test,4", "'phase'"),
        ("secondary_labels", "['b']", ""),
        ("rating", "4", ""),
    ],
)
def test_table_that_says_more_than_class_folders_is_named(
    columns: str, values: str, named: str, tmp_path: Path
) -> None:
    other = values.replace("test", "train")
    rows = f"filename,label,{columns}\na/1.wav,a,{values}\nb/2.wav,b,{other}\n"
    root = write(tmp_path, "meta.csv", rows, "a/1.wav", "b/2.wav")
    manifest = read_manifest(root)
    assert labels(manifest) == {"a/1.wav": "a", "b/2.wav": "b"}
    warning = (
        f"class folders are read, not 'meta.csv' with {named} of these files; to read it, pass --data "
        f"{root}/meta.csv"
    )
    assert (warning in manifest.warnings) == bool(named)
    assert any(text.startswith("class folders are read") for text in manifest.warnings) == bool(named)


@pytest.mark.parametrize("folder", ["", "train/"])
@pytest.mark.parametrize("rows", [2, 3])
def test_table_of_a_split_of_class_folders_is_named(rows: int, folder: str, tmp_path: Path):
    names = ["a/1.wav", "b/2.wav", "b/3.wav"]
    text = "path,label\n" + "".join(f"{folder}{name},{name[0]}\n" for name in names)
    root = write(tmp_path, "train.csv", text.rsplit("\n", 4 - rows)[0], *(folder + name for name in names))
    (root / "test.csv").write_text(f"path,label\n{folder}{names[2]},b\n")
    manifest = read_manifest(root)
    assert len(manifest.clips) == 3
    warning = (
        "class folders are read, not 'train.csv' with 2 of these 3 files; to read it, pass --data "
        f"{root}/train.csv"
    )
    assert (warning in manifest.warnings) == (rows == 2)
    assert not any("not 'train.csv' with 3" in text for text in manifest.warnings)


def test_secondary_labels_next_to_class_folders_are_named(tmp_path: Path):
    root = write(tmp_path, "train_metadata.csv", BIRDS, "train_audio/gre/1.wav", "train_audio/blu/2.wav")
    assert (
        "class folders are read, not 'train_metadata.csv' with 'secondary_labels' of these files; to read "
        f"it, pass --data {root}/train_metadata.csv"
    ) in read_manifest(root, ManifestConfig(multi_label=True)).warnings


def test_class_folders_are_read_despite_tables(tmp_path: Path):
    root = write(
        tmp_path, "metadata.csv", "file_name,label\ndog/a.wav,x\nrain/b.wav,y\n", "dog/a.wav", "rain/b.wav"
    )
    manifest = read_manifest(root)
    assert labels(manifest) == {"dog/a.wav": "dog", "rain/b.wav": "rain"}
    assert (
        "class folders are read, not 'metadata.csv' with other classes ('x', 'y') of these files; to read "
        f"it, pass --data {root}/metadata.csv"
    ) in manifest.warnings


def test_one_of_several_tables_with_other_classes_than_the_folders_is_named(tmp_path: Path):
    """As in two sets of heart sounds, of which each has a folder and a table."""
    sounds = "set_a/1.wav", "set_a/2.wav", "set_b/3.wav", "set_b/4.wav"
    text = "fname,label\nset_{0}/{1}.wav,murmur\nset_{0}/{2}.wav,normal\n"
    root = write(tmp_path, "set_a.csv", text.format("a", 1, 2), *sounds)
    (root / "set_b.csv").write_text(text.format("b", 3, 4))
    (warning,) = read_manifest(root).warnings
    assert "not 'set_a.csv' with other classes ('murmur', 'normal')" in warning
    (root / "set_a.csv").write_text(text.format("a", 1, 2).replace("murmur", "Set_A"))
    (root / "set_b.csv").write_text(text.format("b", 3, 4).replace("murmur", "set_b"))
    assert not any("other classes" in text for text in read_manifest(root).warnings)


@pytest.mark.parametrize("names", [("0", "1"), ("Dog bark", "rain"), ("", "")])
def test_other_spellings_and_numbers_of_classes_are_no_other_classes(names: tuple[str, str], tmp_path: Path):
    text = "file_name,label\ndog_bark/a.wav,{}\nrain/b.wav,{}\n".format(*names)
    root = write(tmp_path, "metadata.csv", text, "dog_bark/a.wav", "rain/b.wav")
    assert not any("other classes" in text for text in read_manifest(root).warnings)


def test_layout_in_object_store_is_recognized(server: S3Server, tmp_path: Path):
    root = write(tmp_path, "train.csv", "fname,label\na.wav,x\nb.wav,y\n", "audio/a.wav", "audio/b.wav")
    bucket = server.bucket("published")
    upload_folder(root, bucket / "data")
    assert labels(read_manifest(bucket / "data")) == {"a.wav": "x", "b.wav": "y"}
    assert labels(read_manifest(bucket / "data/train.csv")) == {"a.wav": "x", "b.wav": "y"}


def test_development_set_of_dcase_is_found_in_a_folder(tmp_path: Path):
    text = "filename,label,split\na.wav,x,development\nb.wav,y,development\nc.wav,x,evaluation\n"
    root = write(tmp_path, "meta/all.csv", text, "audio/a.wav", "audio/b.wav", "eval_audio/c.wav")
    manifest = read_manifest(root)
    assert labels(manifest) == {"a.wav": "x", "b.wav": "y"}
    assert manifest.warnings[:2] == [
        "column 'split': 2 rows ('development': 2) are read as the training split, as no value is train",
        "ignoring 1 row of other splits ('evaluation': 1)",
    ]

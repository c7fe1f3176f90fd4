"""Clips from CSV files and lists of paths, as people and spreadsheets write them; errors name the line."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.clips import NO_FOLD
from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.data.unlabeled import read_unlabeled
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import touch

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))


def write_csv(root: Path, text: str, encoding: str = "utf-8", name: str = "clips.csv") -> Path:
    path = root / name
    path.write_bytes(text.encode(encoding))
    return path


def read_csv(root: Path, text: str, encoding: str = "utf-8", **settings: Any) -> Manifest:
    """Read a table of the files 1.wav … 4.wav, which exist."""
    touch(root, "1.wav", "2.wav", "3.wav", "4.wav")
    return read_manifest(write_csv(root, text, encoding), ManifestConfig(**settings))


def names(manifest: Manifest) -> list[str]:
    """Return the names of the files."""
    return [os.path.basename(path) for path in manifest.clips["path"]]


def test_csv_columns_give_paths_labels_folds_groups(tmp_path: Path):
    touch(tmp_path, "x/1.wav", "x/ü 2.wav")
    lines = [
        "path,label,fold,group,more",
        "x/1.wav,dog,3,rec 1,!",
        '"x/ü 2.wav",rain,,,',
        f"{tmp_path}/x/1.wav,rain,0,rec 1,",
        "",
    ]
    clips = read_manifest(write_csv(tmp_path, "\n".join(lines))).clips
    assert clips["clip_id"].tolist() == [f"{tmp_path}/x/1.wav", "x/1.wav", "x/ü 2.wav"]
    assert clips["label"].tolist() == ["rain", "dog", "rain"]
    assert clips["fold"].tolist() == [0, 3, NO_FOLD]
    assert clips["group"].tolist() == ["rec 1", "rec 1", "x/ü 2.wav"]
    assert clips["path"].tolist() == [f"{tmp_path}/x/1.wav", f"{tmp_path}/x/1.wav", f"{tmp_path}/x/ü 2.wav"]


@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8-sig", "\n"), ("utf-8", "\r\n"), ("utf-8-sig", "\r\n"), ("utf-8", "\r"), ("utf-16", "\r\n")],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_of_spreadsheets_is_read(encoding: str, end: str, separator: str, tmp_path: Path):
    lines = ["label,path,fold", "dög,1.wav,1.0", "rain,2.wav,2", ",,", "", " , ,", ""]
    manifest = read_csv(tmp_path, end.join(lines).replace(",", separator), encoding)
    assert manifest.clips["label"].tolist() == ["dög", "rain"]
    assert manifest.clips["fold"].tolist() == [1, 2]


def test_separator_line_of_excel_is_skipped(tmp_path: Path):
    assert names(read_csv(tmp_path, "sep=;\r\npath;label\r\n1.wav;a\r\n2.wav;b\r\n")) == ["1.wav", "2.wav"]
    with pytest.raises(UserError, match="line 4: label is empty"):
        read_csv(tmp_path, "sep=;\r\npath;label\r\n1.wav;a\r\n2.wav;\r\n")


def test_quotes_after_blanks_are_no_part_of_classes(tmp_path: Path):
    text = 'path, label\n1.wav, "dog"\n2.wav, dog\n3.wav, "cat, big"\n'
    assert read_csv(tmp_path, text).clips["label"].tolist() == ["dog", "dog", "cat, big"]


@pytest.mark.parametrize("form", ["fold{}", "Fold {}", "fold_{}", "FOLD-0{}", "{}.0", "{}"])
def test_folds_may_be_written_as_folders_are_named(form: str, tmp_path: Path):
    rows = "".join(f"{number}.wav,dog,{form.format(number)}\n" for number in (1, 2))
    assert read_csv(tmp_path, f"path,label,fold\n{rows}").clips["fold"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "header",
    [
        "Path, Label",
        " PATH ,LABEL ",
        "filename,category",
        "File Name,Class",
        "file_path,class name",
        "fname,target",
        "clip_name,label",
        "id,label",
        "slice_file_name,class",
        "audio_filepath,label",
        "wav,label",
        "audio_filename,label",
        "mp3_path,label",
        "filename,scene_label",  # DCASE
        "filename,species",
        "path,emotion",
    ],
)
def test_common_column_names_are_accepted(header: str, tmp_path: Path):
    manifest = read_csv(tmp_path, f"{header}\n1.wav, dog \n2.wav,rain\n")
    assert manifest.clips["label"].tolist() == ["dog", "rain"] and names(manifest) == ["1.wav", "2.wav"]


def test_path_is_used_rather_than_number_of_clip(tmp_path: Path):
    """MagnaTagATune has a column of 0 and 1 for each tag, a number and a path."""
    manifest = read_csv(tmp_path, "clip_id\tguitar\tpiano\tmp3_path\n7\t1\t0\t1.wav\n8\t0\t1\t2.wav\n")
    assert names(manifest) == ["1.wav", "2.wav"]
    assert manifest.clips["label"].tolist() == ["guitar", "piano"]


def test_species_is_label_rather_than_group_of_species(tmp_path: Path):
    manifest = read_csv(tmp_path, "primary_label,class_name,filename\nasbfly,Aves,1.wav\n007,Insecta,2.wav\n")
    assert manifest.clips["label"].tolist() == ["asbfly", "007"]


def test_species_is_label_rather_than_its_code(tmp_path: Path):
    manifest = read_csv(
        tmp_path, "path,species_code,common_name\n1.wav,eurbla,Blackbird\n2.wav,eurrob,Robin\n"
    )
    assert manifest.clips["label"].tolist() == ["Blackbird", "Robin"]


def test_column_of_what_several_may_be_is_asked_for(tmp_path: Path):
    text = "path,genre,instrument\n1.wav,jazz,piano\n2.wav,rock,guitar\n"
    with pytest.raises(UserError, match=r"'genre', 'instrument' can be the classes; .*--label-column"):
        read_csv(tmp_path, text)
    labeled = read_csv(tmp_path, text.replace("genre", "label"))
    assert labeled.clips["label"].tolist() == ["jazz", "rock"]


def test_missing_fold_and_group_of_pandas_are_none(tmp_path: Path):
    clips = read_csv(tmp_path, "path,label,fold,group\n1.wav,a,NaN,nan\n2.wav,a,1,NaN\n").clips
    assert clips["fold"].tolist() == [NO_FOLD, 1]
    assert clips["group"].tolist() == ["1.wav", "2.wav"]


@pytest.mark.parametrize("rows", ["a.wav,x\nA.wav,y\n", "A.wav,x\na.wav,y\n", "A.wav,x\nA.WAV,y\n"])
def test_file_with_another_row_in_other_case_raises(rows: str, tmp_path: Path):
    touch(tmp_path, "a.wav")
    table = write_csv(tmp_path, f"path,label\n{rows}")
    for read in (read_manifest, read_unlabeled):
        with pytest.raises(
            UserError, match=r"'A.wav' does not exist, only '.*/a.wav', which has another row"
        ):
            read(table)


def test_columns_of_esc50_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "melray"):
        manifest = read_csv(tmp_path, "filename,fold,target,category\n1.wav,1,0,dog\n2.wav,2,1,rain\n")
    logger.removeHandler(caplog.handler)
    assert manifest.clips["label"].tolist() == ["dog", "rain"] and manifest.clips["fold"].tolist() == [1, 2]
    assert "columns filename as path, category as label; ignored: 'target'" in caplog.text


def test_rows_of_other_splits_are_left_out(tmp_path: Path):
    text = "path,label,split\n1.wav,a,train\n2.wav,b,Training\n3.wav,a,test\n4.wav,b,val\n"
    manifest = read_csv(tmp_path, text)
    assert names(manifest) == ["1.wav", "2.wav"]
    assert "ignoring 2 rows of other splits ('test': 1, 'val': 1)" in manifest.warnings
    assert names(read_csv(tmp_path, text.replace(",split", ",subset"))) == ["1.wav", "2.wav"]
    with pytest.raises(UserError, match=r"no row belongs to the training split \('test': 2\)"):
        read_csv(tmp_path, "path,label,split\n1.wav,a,test\n2.wav,b,test\n")
    with pytest.raises(
        UserError, match=r"column 'split' has values \('1': 1, '2': 1\), none of which is train, val or test"
    ):
        read_csv(tmp_path, "path,label,split\n1.wav,a,1\n2.wav,b,2\n")


@pytest.mark.parametrize(
    ("column", "train", "held_out"),
    [
        ("is_test", "False", "True"), ("is_train", "1", "0"), ("isTraining", "true", "false"),
        ("in_validation_set", "0.0", "1.0"), ("Test", "no", "yes"), ("is val", "", "1"),
        ("is_train", "t", ""),
    ],
)  # fmt: skip
def test_column_of_true_and_false_marks_splits(column: str, train: str, held_out: str, tmp_path: Path):
    rows = f"1.wav,a,{train}\n2.wav,b,{train}\n3.wav,a,{held_out}\n4.wav,b,{train}\n"
    manifest = read_csv(tmp_path, f"path,label,{column}\n{rows}")
    assert names(manifest) == ["1.wav", "2.wav", "4.wav"]
    shown = f"'{held_out}'" if held_out else "no value"
    assert manifest.warnings[:2] == [
        f"column '{column}': 1 row ({shown}: 1) held out", f"ignoring 1 row of other splits ({shown}: 1)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "values"),
    [
        # A valid annotation, trains that can be heard, ratings, no row that is marked, names of tests.
        ("is_valid", "10"), ("train", "01"), ("evaluation", "10"), ("is_test", "00"), ("is_train", "11"),
        ("is_train", ("", "")), ("test", "ab"), ("is_test", ("0", "?")),
    ],
)  # fmt: skip
def test_columns_that_mark_no_split_are_not_used(column: str, values: Sequence[str], tmp_path: Path):
    manifest = read_csv(tmp_path, f"path,label,{column}\n1.wav,a,{values[0]}\n2.wav,b,{values[1]}\n")
    assert len(manifest.clips) == 2 and not [text for text in manifest.warnings if "held out" in text]


def test_columns_that_each_mark_a_split_divide_the_rows(tmp_path: Path):
    text = "path,label,is_test,is_val,is_train\n1.wav,a,0,0,1\n2.wav,b,1,0,0\n3.wav,a,0,1,0\n4.wav,b,0,0,1\n"
    assert names(read_csv(tmp_path, text)) == ["1.wav", "4.wav"]
    without_train = text.replace("is_train", "other")
    assert names(read_csv(tmp_path, without_train)) == ["1.wav", "4.wav"]
    with pytest.raises(UserError, match="columns 'is_test' and 'is_val' both mark held-out rows: write one"):
        read_csv(tmp_path, without_train.replace("a,0,1", "a,1,1"))


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("columns", "rows", "used", "contradicting"),
    [
        ("split,is_test", ["train,0", "test,1", "val,0", "train,"], [1, 4], ""),
        ("split,is_test", ["train,1", "train,0", "val,0", "train,1"], [1, 2, 4], "2 rows"),
        ("is_train,is_test", ["1,1", "0,0", "0,1", "1,0"], [1, 4], "1 row"),
        ("split,subset", ["train,train", "test,test", "train,validation", "train,"], [1, 3, 4], "1 row"),
        ("split,subset", ["train,small", "test,large", "train,validation", "train,"], [1, 3, 4], ""),
    ],
)
def test_columns_with_different_splits_are_named(
    columns: str, rows: Sequence[str], used: list[int], contradicting: str, multi_label: bool, tmp_path: Path
):
    text = "".join(f"{number}.wav,a,{row}\n" for number, row in enumerate(rows, start=1))
    manifest = read_csv(tmp_path, f"path,label,{columns}\n{text}", multi_label=multi_label)
    assert names(manifest) == [f"{number}.wav" for number in used]
    first, second = columns.split(",")
    expected = (
        f"columns '{first}' and '{second}' contradict each other: {contradicting} of the training split"
    )
    warnings = [text for text in manifest.warnings if "contradict" in text]
    assert len(warnings) == bool(contradicting) and all(text.startswith(expected) for text in warnings)


@pytest.mark.parametrize("column", ["split", "subset", "set", "partition"])
@pytest.mark.parametrize(
    "value",
    [
        "devel", "dev-test", "test1", "test_seen", "dev-clean", "public_test", "PrivateTest", "eval2",
        "unseen", "tst", "test-other", "Test 2", "validation_matched", "hold-out", "evaluate", "testset3",
    ],
)  # fmt: skip
def test_held_out_splits_in_other_words_are_left_out(column: str, value: str, tmp_path: Path):
    manifest = read_csv(tmp_path, f"path,label,{column}\n1.wav,a,train-clean-100\n2.wav,b,{value}\n")
    assert names(manifest) == ["1.wav"]
    assert f"ignoring 1 row of other splits ('{value}': 1)" in manifest.warnings


@pytest.mark.parametrize(
    "value", ["training", "train-other-500", "train2", "unbalanced_train", "trn", "TRAIN"]
)
def test_training_splits_in_other_words_are_read(value: str, tmp_path: Path):
    assert names(read_csv(tmp_path, f"path,label,subset\n1.wav,a,{value}\n2.wav,b,test\n")) == ["1.wav"]


@pytest.mark.parametrize("column", ["split", "subset", "set", "partition"])
@pytest.mark.parametrize(
    "value", ["second", "device", "trainval", "train-dev", "validated", "seen", "contest"]
)
def test_value_that_may_be_any_split_is_refused(column: str, value: str, tmp_path: Path):
    rows = f"1.wav,a,train\n2.wav,b,test\n3.wav,a,{value}\n4.wav,b,{value}\n"
    with pytest.raises(UserError) as error:
        read_csv(tmp_path, f"path,label,{column}\n{rows}")
    assert str(error.value) == (
        f"--data {tmp_path}/clips.csv: column '{column}' names splits ('test': 1, 'train': 1), but not in "
        f"all rows ('{value}': 2): write train, val or test there, or rename the column if it means "
        "something else"
    )


def test_rows_without_a_split_are_for_training_unless_others_are(tmp_path: Path):
    manifest = read_csv(tmp_path, "path,label,subset\n1.wav,a,test\n2.wav,b,\n3.wav,b\n4.wav,a,NaN\n")
    assert names(manifest) == ["2.wav", "3.wav", "4.wav"]
    assert manifest.warnings[:2] == [
        "column 'subset': 3 rows (no value: 2, 'NaN': 1) are read as the training split, as no value is "
        "train",
        "ignoring 1 row of other splits ('test': 1)",
    ]
    manifest = read_csv(tmp_path, "path,label,split\n1.wav,a,train\n2.wav,b,\n3.wav,b,test\n4.wav,b,train\n")
    assert names(manifest) == ["1.wav", "4.wav"]
    assert manifest.warnings[0] == "ignoring 2 rows of other splits (no value: 1, 'test': 1)"


@pytest.mark.parametrize("value", ["development", "Development", "dev", "devel", "dev-clean", "dev_set"])
def test_development_set_is_for_training_only_without_a_training_split(value: str, tmp_path: Path):
    rows = f"path,label,split\n1.wav,a,{value}\n2.wav,b,evaluation\n3.wav,b,{value}\n4.wav,b,validation\n"
    manifest = read_csv(tmp_path, rows)
    assert names(manifest) == ["1.wav", "3.wav"]
    assert manifest.warnings[0] == (
        f"column 'split': 2 rows ('{value}': 2) are read as the training split, as no value is train"
    )
    manifest = read_csv(tmp_path, rows.replace("validation", "train"))
    assert names(manifest) == ["4.wav"]
    assert manifest.warnings[0] == f"ignoring 3 rows of other splits ('{value}': 2, 'evaluation': 1)"
    with pytest.raises(UserError, match=rf"\('{value}': 2, .*, but not in all rows \(no value: 1\): write"):
        read_csv(tmp_path, rows.replace("validation", ""))


@pytest.mark.parametrize("column", ["data_split", "Usage", "dataset", "phase"])
def test_column_of_any_name_with_both_splits_in_all_rows_divides(column: str, tmp_path: Path):
    text = f"path,label,note,{column}\n1.wav,a,,Training\n2.wav,b,,PublicTest\n3.wav,b,x,Training\n"
    manifest = read_csv(tmp_path, text)
    assert names(manifest) == ["1.wav", "3.wav"]
    assert "ignoring 1 row of other splits ('PublicTest': 1)" in manifest.warnings
    assert len(read_csv(tmp_path, text.replace("PublicTest", "Training")).clips) == 3
    assert len(read_csv(tmp_path, text.replace("PublicTest", "bus")).clips) == 3


@pytest.mark.parametrize("column", ["Usage", "usage", "split", "phase"])
def test_rows_of_leaderboards_are_held_out(column: str, tmp_path: Path):
    text = f"path,label,{column}\n1.wav,a,Train\n2.wav,b,Private\n3.wav,b,Public\n4.wav,a,Ignored\n"
    manifest = read_csv(tmp_path, text)
    assert names(manifest) == ["1.wav"]
    assert manifest.warnings[0] == (
        "ignoring 3 rows of other splits ('Ignored': 1, 'Private': 1, 'Public': 1)"
    )


def test_public_and_private_without_training_rows_are_splits_in_usage_only(tmp_path: Path):
    text = "path,label,{}\n1.wav,a,Public\n2.wav,b,Private\n"
    for column in ("license", "subset"):
        assert len(read_csv(tmp_path, text.format(column)).clips) == 2
    with pytest.raises(
        UserError, match=r"no row belongs to the training split \('Private': 1, 'Public': 1\)"
    ):
        read_csv(tmp_path, text.format("Usage"))
    # Licenses next to words that are no splits.
    assert len(read_csv(tmp_path, text.format("Usage").replace("Private", "commercial")).clips) == 2


def test_columns_that_name_no_splits_are_not_used(tmp_path: Path):
    assert len(read_csv(tmp_path, "path,label,subset\n1.wav,a,small\n2.wav,b,\n").clips) == 2
    assert len(read_csv(tmp_path, "path,label,split\n1.wav,a,\n2.wav,b,\n").clips) == 2
    text = "path,label,set,partition\n1.wav,a,A,train\n2.wav,b,B,test\n"
    assert names(read_csv(tmp_path, text)) == ["1.wav"]
    # A class named like a split, in the column of the classes.
    (tmp_path / "set.csv").write_text("path,set\n1.wav,train\n2.wav,bus\n")
    clips = read_manifest(tmp_path / "set.csv", ManifestConfig(label_column="set")).clips
    assert clips["label"].tolist() == ["train", "bus"]


def test_file_uris_are_local_paths(tmp_path: Path):
    touch(tmp_path, "1.wav", "ü 2.wav", "3.wav")
    uris = [(tmp_path / name).as_uri() for name in ("1.wav", "ü 2.wav", "3.wav")]
    uris[2] = uris[2].replace("file:///", "file://localhost/")
    table = write_csv(tmp_path, "path,label\n" + "".join(f"{uri},a\n" for uri in uris))
    expected = {f"{tmp_path}/{name}" for name in ("1.wav", "ü 2.wav", "3.wav")}
    for read in (read_manifest, read_unlabeled):
        clips = read(table).clips
        assert set(clips["path"]) == set(clips["clip_id"]) == expected
        assert (clips["mtime_ns"] > 0).all()


@pytest.mark.parametrize(
    "url", ["https://example.org/1.wav", "http://x/1.wav", "ftp://x/1", "file://nas/1.wav"]
)
def test_urls_are_not_taken_for_missing_files(url: str, tmp_path: Path):
    message = f"line 3: '{url}' is a URL, which is not read: download the file, and write its path"
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path, f"path,label\n1.wav,a\n{url},b\n")
    with pytest.raises(UserError, match=message):
        read_unlabeled(tmp_path / "clips.csv")
    # Rows that are not read may have any.
    assert names(read_csv(tmp_path, f"path,label,split\n1.wav,a,train\n{url},b,test\n")) == ["1.wav"]


def test_table_of_urls_does_not_list_files_of_its_folder(tmp_path: Path):
    touch(tmp_path, "audio/1.wav")
    write_csv(tmp_path, "path,label\nhttps://example.org/1.wav,a\n", name="train.csv")
    assert read_manifest(tmp_path).clips["label"].tolist() == ["audio"]


RECORDINGS = "7,7-A,a\n7,7-B,b\n8,8-A,a\n"


@pytest.mark.parametrize("column", ["src_file", "fsID", "group"])
@pytest.mark.parametrize("folder", ["meta", "", "audio"])
@pytest.mark.parametrize("prefix", ["", "audio/", "absolute"])
def test_recordings_do_not_depend_on_folder_of_table(
    column: str, folder: str, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    touch(tmp_path, "audio/7-A.wav", "audio/7-B.wav", "audio/8-A.wav")
    start = f"{tmp_path}/audio/" if prefix == "absolute" else prefix
    rows = [line.split(",") for line in RECORDINGS.split()]
    text = "".join(f"{group},{start}{name}.wav,{label}\n" for group, name, label in rows)
    (tmp_path / folder).mkdir(exist_ok=True)
    table = write_csv(tmp_path / folder, f"{column},path,label\n{text}")
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "melray"):
        clips = read_manifest(table).clips
    logger.removeHandler(caplog.handler)
    assert clips["group"].tolist() == ["7", "7", "8"]
    assert "ignored" not in caplog.text


def test_groups_in_any_unicode_form_are_equal(tmp_path: Path):
    text = f"path,label,group\n1.wav,a,{COMPOSED}\n2.wav,b,{DECOMPOSED}\n"
    assert read_csv(tmp_path, text).clips["group"].tolist() == [COMPOSED, COMPOSED]


def test_names_find_files_in_other_forms(tmp_path: Path):
    touch(
        tmp_path,
        f"{DECOMPOSED}/{DECOMPOSED}.wav",
        "dog/b.flac",
        "dog/b.txt",
        "dog/C.WAV",
        "dog/ d.wav",
        "e\\f.wav",
    )
    (tmp_path / "dog/b").mkdir()
    rows = {
        f"{COMPOSED}/{COMPOSED}.wav": f"{DECOMPOSED}/{DECOMPOSED}.wav",
        "dog\\b": "dog/b.flac",
        "dog/c.wav": "dog/C.WAV",
        "dog/ d.wav": "dog/ d.wav",
        " dog/b.flac": "dog/b.flac",
        "e\\f.wav": "e\\f.wav",
    }
    manifest = read_manifest(write_csv(tmp_path, "path,label\n" + "".join(f'"{name}",a\n' for name in rows)))
    found = dict(zip(manifest.clips["clip_id"], manifest.clips["path"], strict=True))
    ids = [f"{COMPOSED}/{COMPOSED}.wav", "dog/b", "dog/c.wav", "dog/ d.wav", "dog/b.flac", "e\\f.wav"]
    assert found == {key: f"{tmp_path}/{path}" for key, path in zip(ids, rows.values(), strict=True)}
    assert (manifest.clips["size"] > 0).all()


def test_converted_files_are_found_by_their_former_names(tmp_path: Path):
    touch(tmp_path, "a/1.wav", "a/2.flac", "3.wav", "4.wav", "4.flac")
    text = "path,label\na/1.mp3,x\na/2.m4a,y\n3.wav,x\n4.mp3,y\n"
    manifest = read_manifest(write_csv(tmp_path, text))
    paths = dict(zip(manifest.clips["clip_id"], manifest.clips["path"], strict=True))
    names = {"a/1.mp3": "a/1.wav", "a/2.m4a": "a/2.flac", "3.wav": "3.wav", "4.mp3": "4.mp3"}
    assert paths == {name: f"{tmp_path}/{file}" for name, file in names.items()}
    assert manifest.warnings[:2] == [
        f"1 of 4 listed files do not exist, e.g. '{tmp_path}/4.mp3'",  # may be one of two
        f"2 of 4 listed files exist with another ending only, e.g. 'a/1.mp3' as '{tmp_path}/a/1.wav'",
    ]
    with pytest.raises(UserError, match=r"'3.mp3' does not exist, only '.*3.wav', which has another row"):
        read_manifest(write_csv(tmp_path, "path,label\n3.mp3,x\n3.wav,y\n"))
    assert names_of_predicted(tmp_path) == ["a/1.mp3", "a/2.m4a"]


def names_of_predicted(root: Path) -> list[str]:
    (root / "test.csv").write_text("path\na/1.mp3\na/2.m4a\n")
    clips = read_unlabeled(root / "test.csv").clips
    assert (clips["size"] > 0).all()
    return clips["clip_id"].tolist()


def test_name_of_several_files_raises(tmp_path: Path):
    touch(tmp_path, "dog/1.wav", "dog/1.mp3", "dog/2.wav")
    with pytest.raises(UserError, match=r"line 3: '1' can be '1\.(wav|mp3)' or '1\.(wav|mp3)'"):
        read_manifest(write_csv(tmp_path, "path,label\ndog/2.wav,a\ndog/1,b\n"))


def test_missing_file_is_kept_without_size(tmp_path: Path):
    manifest = read_csv(tmp_path, "path,label\n1.wav,dog\n5.wav,rain\nnul\0.wav,rain\n")
    assert manifest.clips["size"].tolist() == [5, -1, -1]
    assert manifest.clips["mtime_ns"].tolist()[1:] == [0, 0]
    assert f"2 of 3 listed files do not exist, e.g. '{tmp_path}/5.wav'" in manifest.warnings


def test_no_listed_file_raises_with_expected_path(tmp_path: Path):
    touch(tmp_path, "audio/1.wav", "meta/x")
    rows = "path,label\n7.wav,a\n2.wav,b\n"
    with pytest.raises(UserError, match=r"none of the 2 listed files exists; .* expected as '.*/meta/7.wav'"):
        read_manifest(write_csv(tmp_path / "meta", rows))
    with pytest.raises(UserError, match="paths are relative to the folder of the CSV"):
        read_manifest(write_csv(tmp_path, "path,label\nC:\\data\\7.wav,a\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,fold\n1.wav,1\n", "no column 'label'; the first line must be path,label"),
        ("what,label\n1.wav,dog\n", "no column 'path'; .* not 'what,label'"),
        ("", "no column 'path'"),
        ("path,label\n", r"--data .*\.csv: has no rows of clips below its header"),
        ("path,label\n1.wav,dog\n,rain\n", "line 3: path is empty"),
        ("path,label\n\n\n1.wav,dog\n\n,rain\n", "line 6: path is empty"),
        ('path,label,note\n1.wav,dog,"a\nb\nc"\n2.wav,,\n', "line 5: label is empty"),
        ("path,label\n1.wav,\n", "line 2: label is empty"),
        ("path,label\n1.wav, \n", "line 2: label is empty"),
        ("path,label\n1.wav\n", "line 2: label is empty"),
        ("path,label,fold\n1.wav,dog,one\n", "line 2: fold 'one' is not an integer"),
        ("path,label,fold\n1.wav,dog,1.5\n", "line 2: fold '1.5' is not an integer"),
        ("path,label\n1.wav,nan\n", "line 2: label is empty"),
        ("path,label,fold\n1.wav,dog,inf\n", "line 2: fold 'inf' is not an integer"),
        (
            "path,label,fold\n1.wav,dog,train\n",
            "line 2: fold 'train' is not an integer .*; to leave out rows of other splits, name the column "
            "'split'$",
        ),
        ("path,label,fold\n1.wav,dog,99999999999\n", "line 2: fold '99999999999' is not an integer"),
        ("path,label\n1.wav,dog\n1.wav,rain\n2.wav,dog\n", "1 duplicate paths, e.g. '1.wav'"),
        ("path,label\n1.wav,dog\n./1.wav,dog\n", "1 duplicate paths, e.g. '1.wav'"),
        ("path,label\na, b.wav,dog\n", "line 2: 3 values in 2 columns; .* needs quotes"),
        ('path,label\n"1.wav,dog\n2.wav,rain\n', "not a CSV .unexpected end of data"),
        ("path,label,label\n1.wav,dog,rain\n", "two columns are named 'label'"),
        ("path,label\n" + "x" * 200_000 + ",dog\n", "not a CSV"),
        ("path,label\ns3://,dog\n", "line 2: unsupported storage URI"),
        ("path,label\nfolder,dog\n", "line 2: 'folder' is not a file"),
    ],
)
def test_invalid_csv_raises(text: str, message: str, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\n1.wav,Hündin\n".encode("latin-1"), "not UTF-8 text .* 'CSV UTF-8'.*iconv"),
        ("path,label\n1.wav,dog\n".encode("utf-16-le"), "NUL characters.*'CSV UTF-8'"),
        (b"PK\3\4rest", "an Excel workbook or a ZIP archive; save the sheet as CSV"),
        (b"\x1f\x8brest", "compressed; unpack it"),
    ],
)
def test_file_that_is_not_text_raises_with_fix(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "clips.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "clips.csv")


def test_audio_file_as_data_raises(tmp_path: Path):
    with pytest.raises(UserError, match="is an audio file; expected a folder of class folders, or a CSV"):
        read_manifest(touch(tmp_path, "1.wav") / "1.wav")


@pytest.mark.parametrize("name", ["ä 1.wav", "1.m4a", "1"])
def test_unlabeled_single_file_is_one_clip(name: str, tmp_path: Path):
    manifest = read_unlabeled(touch(tmp_path, name) / name)
    assert manifest.clips[["clip_id", "path", "label"]].values.tolist() == [[name, f"{tmp_path}/{name}", ""]]


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("test.csv", "path\n2.wav\n1.wav\n", ["1.wav", "2.wav"]),
        ("test.csv", "clip,probability\n2,0\n1,0\n", ["1", "2"]),
        ("test.csv", "whatever\n2\n1\n", ["1", "2"]),
        ("test.csv", "2.wav\n1.wav\n", ["1.wav", "2.wav"]),
        ("test.csv", "id,path\na,1.wav\nb,2.wav\n", ["a", "b"]),
        ("test.csv", "id;File Name\na;1.wav\nb;2.wav\n", ["a", "b"]),
        ("test.csv", "id,label\n2,?\n1,?\n", ["1", "2"]),
        ("test.tsv", "path\tsplit\n1.wav\ttest\n2.wav\ttest\n", ["1.wav", "2.wav"]),
        ("list.txt", "2.wav\n\n1.wav\n", ["1.wav", "2.wav"]),
        ("list.txt", "./2.wav\r\n1.wav\r\n", ["1.wav", "2.wav"]),
        ("list.lst", "1\n2\n", ["1", "2"]),
    ],
)
def test_unlabeled_tables_give_ids_and_paths(name: str, text: str, ids: list[str], tmp_path: Path):
    touch(tmp_path, "1.wav", "2.wav")
    clips = read_unlabeled(write_csv(tmp_path, text, name=name)).clips
    assert clips["clip_id"].tolist() == ids
    assert clips["path"].tolist() == [f"{tmp_path}/1.wav", f"{tmp_path}/2.wav"]
    assert set(clips["label"]) == {""}


def test_list_of_paths_keeps_commas(tmp_path: Path):
    touch(tmp_path, "a, b.wav", 'say "hi".wav', "c;d.wav")
    path = write_csv(tmp_path, 'a, b.wav\nsay "hi".wav\nc;d.wav\n', name="list.txt")
    assert read_unlabeled(path).clips["clip_id"].tolist() == ["a, b.wav", "c;d.wav", 'say "hi".wav']


def test_listed_test_file_that_is_missing_stays(tmp_path: Path):
    touch(tmp_path, "1.wav")
    manifest = read_unlabeled(write_csv(tmp_path, "path\n1.wav\n2.wav\n"))
    assert manifest.clips["size"].tolist() == [5, -1]
    assert manifest.warnings == [f"1 of 2 listed files do not exist, e.g. '{tmp_path}/2.wav'"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test.csv", "path\n7.wav\n", "none of the 1 listed files exists"),
        ("test.csv", "a,b\nx,y\n", "no column 'path'; the first line must be path or id,path"),
        ("test.csv", "path\n1.wav\n1.wav\n", "1 duplicate paths"),
        ("test.csv", "id,path\n7,1.wav\n7,2.wav\n", r"1.wav' and '.*2.wav' have the same id '7'$"),
        ("test.csv", "path\n", "no audio files found"),
        ("test.pdf", "x", "neither an audio file nor a CSV or a list of files"),
    ],
)
def test_unusable_unlabeled_table_raises(name: str, text: str, message: str, tmp_path: Path):
    touch(tmp_path, "1.wav", "2.wav")
    with pytest.raises(UserError, match=message):
        read_unlabeled(write_csv(tmp_path, text, name=name))


@pytest.mark.parametrize(
    ("paths", "kept"),
    [
        (("train/1.wav", "train/2.wav", "test/3.wav"), 2),
        (("./train/1.wav", "training\\2.wav", "validation/3.wav"), 2),
        (("audio/train/1.wav", "audio/train/2.wav", "audio/test/3.wav"), 2),
        (("dog/train/1.wav", "cat/train/2.wav", "dog/test/3.wav"), 2),
        (("audio/dog/train/a/1.wav", "audio/cat/valid/b/2.wav", "audio/dog/3.wav"), 2),
        (("test/train/1.wav", "test/train/2.wav", "test/train/3.wav"), 3),
        (("test/a/train/1.wav", "test/train/2.wav", "test/train/3.wav"), 3),
        (("test/1.wav", "test/2.wav", "test/3.wav"), 3),  # all that there is
        (("test/1.wav", "bark/2.wav", "bark/3.wav"), 3),  # may be classes
        (("train/1.wav", "1.wav", "2.wav"), 3),
        (("development/1.wav", "development/2.wav", "evaluation/3.wav"), 2),
        (("x/dev/1.wav", "x/dev/2.wav", "x/test/3.wav"), 2),
        (("train/1.wav", "development/2.wav", "test/3.wav"), 1),
        (("development/1.wav", "development/2.wav", "bark/3.wav"), 3),
    ],
)
def test_rows_in_folders_of_both_splits_are_divided(
    paths: tuple[str, ...], kept: int, tmp_path: Path
) -> None:
    touch(tmp_path, *(path.replace("\\", "/") for path in paths))
    text = "path,label\n" + "".join(f"{path},{name}\n" for path, name in zip(paths, "aba", strict=True))
    assert len(read_manifest(write_csv(tmp_path, text)).clips) == kept
    absolute = text.replace("\n./", "\n").replace("\n", f"\n{tmp_path}/", 3)
    assert len(read_manifest(write_csv(tmp_path, absolute)).clips) == kept
    # A column of splits decides by itself.
    split = (
        text.replace("label\n", "label,split\n").replace(",a\n", ",a,train\n").replace(",b\n", ",b,train\n")
    )
    assert len(read_manifest(write_csv(tmp_path, split)).clips) == 3


def test_events_in_folders_of_both_splits_are_divided(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.wav", "test/2.wav")
    text = "path,label,start,end\ntest/2.wav,b,0,1\ntrain/1.wav,a,0,1\ntrain/1.wav,c,2,3\n"
    manifest = read_manifest(write_csv(tmp_path, text), ManifestConfig(window=1.0))
    assert names(manifest) == ["1.wav"] and manifest.clips["label"].tolist() == ["a;c"]


def test_times_of_unlabeled_tables_are_not_used_without_a_word(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav")
    manifest = read_unlabeled(write_csv(tmp_path, "id,path,start,end\na,1.wav,0,1\nb,1.wav,2,3\n"))
    assert any("columns 'start', 'end' are not used: the prediction of a row" in w for w in manifest.warnings)
    with pytest.raises(UserError, match=r"list each path in one row only$"):
        read_unlabeled(write_csv(tmp_path, "path,start,end\n1.wav,0,1\n1.wav,2,3\n"))


@pytest.mark.parametrize("value", ["NA", "None", "null", "n/a", "<NA>", "NaN", ""])
def test_missing_folds_groups_and_further_labels_are_none(value: str, tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav")
    text = f"path,label,fold,group,secondary_labels\n1.wav,a,{value},{value},{value}\n2.wav,b,1,{value},a\n"
    for multi_label in (False, True):
        clips = read_manifest(write_csv(tmp_path, text), ManifestConfig(multi_label=multi_label)).clips
        assert clips["group"].tolist() == ["1.wav", "2.wav"] and clips["fold"].tolist() == [-1, 1]
    assert clips["label"].tolist() == ["a", "a;b"]
    # Names of classes are what they are.
    named = read_csv(tmp_path, "path,label\n1.wav,None\n2.wav,NA\n")
    assert named.clips["label"].tolist() == ["None", "NA"]


@pytest.mark.parametrize(
    "header",
    [
        "id,file-name,class",  # the API of Xeno-canto
        "id,file.name,class",  # R
        "id,File Name,Class",
        "take,itemid,label",  # challenges of bird audio detection
        "take,uuid,label",  # COUGHVID
        "take,segment_id,label",  # AudioSet
    ],
)
def test_columns_of_paths_are_recognized(header: str, tmp_path: Path):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "clips.csv").write_text(f"{header}\n7,a,dog\n8,b,rain\n")
    clips = read_manifest(tmp_path / "clips.csv").clips
    assert clips[["clip_id", "label"]].values.tolist() == [["a", "dog"], ["b", "rain"]]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id,uuid,label", "a,7,dog"),
        ("path,_path,label", "a,7,dog"),
        ("path,label,label?", "a,dog,x"),
        ("path,label,Set,Set #", "a,dog,x,7"),
    ],
)
def test_usual_names_come_before_similar_ones(header: str, row: str, tmp_path: Path):
    touch(tmp_path, "a.wav")
    (tmp_path / "clips.csv").write_text(f"{header}\n{row}\n")
    clips = read_manifest(tmp_path / "clips.csv").clips
    assert clips[["clip_id", "label"]].values.tolist() == [["a", "dog"]]

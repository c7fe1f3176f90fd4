"""Names of classes that are codes in the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.annotations.annotation import Annotation
from pipeline.data.class_names import read_class_names
from pipeline.data.manifest import ManifestConfig, read_manifest
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import labels, touch


def named(tmp_path: Path, content: str, *classes: str, name: str = "names.csv", multi_label: bool = False):
    (tmp_path / name).write_text(content)
    return read_class_names(tmp_path / name, set(classes), multi_label).by_code


@pytest.mark.parametrize(
    "content, name",
    [
        ("01,calm\n02,angry\n", "names.csv"),  # without a header
        ("code,emotion\n01,calm\n02,angry\n", "names.csv"),
        ("emotion;code\ncalm;01\nangry;02\n", "names.csv"),
        ("1,calm\n2,angry\n", "names.csv"),  # as a spreadsheet saves it
        ("1\tcalm\n2\tangry\n", "names.tsv"),
        ('{"id": 1, "name": "calm"}\n{"id": 2, "name": "angry"}\n', "names.jsonl"),
        ("index,mid,display_name\n0,01,calm\n1,02,angry\n2,03,sad\n", "names.csv"),
        ('{"01": "calm", "02": "angry"}', "names.json"),
        ('{"calm": 1, "angry": 2}', "names.json"),
        ('{"id2label": {"1": "calm", "2": "angry"}, "label2id": {"calm": 1, "angry": 2}}', "config.json"),
        ("code,scientific_name,common_name,class_name\n1,Q. q.,calm,Aves\n2,A. a.,angry,Aves\n", "names.csv"),
        ('[{"code": "01", "name": "calm"}, {"code": "02", "name": "angry"}]', "names.json"),
        ("code,name,count\n01,calm,7\n02,angry,8\n", "names.csv"),
        ("code,name\n1.0,calm\n2.0,angry\n", "names.csv"),  # numbers by pandas
        (",code,name\n1,01,calm\n2,02,angry\n", "names.csv"),  # rows numbered by pandas
        (",code,name\n0,0,quiet\n1,1,calm\n2,2,angry\n", "names.csv"),
        ("index,code,display_name\n0,3,sad\n1,2,angry\n2,1,calm\n", "names.csv"),
        ("Unnamed: 0,code,name\n2,1,calm\n1,2,angry\n", "names.csv"),
        ("name,label\ncalm,1\nangry,2\n", "names.csv"),
        ("file,code,name\n1.wav,1,calm\n2.wav,2,angry\n3.wav,1,calm\n", "names.csv"),
    ],
)
def test_names_of_codes_are_found(content: str, name: str, tmp_path: Path):
    assert named(tmp_path, content, "01", "02", name=name) == {"01": "calm", "02": "angry"}


def test_codes_that_are_numbers_of_different_length_stay_apart(tmp_path: Path):
    assert named(tmp_path, "1,one\n01,first\n", "1", "01") == {"1": "one", "01": "first"}


@pytest.mark.parametrize(
    "content, message",
    [
        ("code,name\n03,sad\n", r"has none of the classes of the data, '01', '02'; write each in a line"),
        ("code,name\n01,\n", r"line 2: class '01' has no name; write one, or remove"),
        ("code,name\n01,calm\n01,sad\n", r"line 3: class '01' has the names 'calm' and 'sad'; keep one"),
        ("", r"has none of the classes of the data, '01', '02'"),
        ("code\n01\n", r"has no column of names next to 'code'"),
        ("code,french,german\n01,calme,ruhig\n", r"which of its columns 'french', 'german' has the names\?"),
        ("code,name\n01,calm;quiet\n", r"line 2: .*'calm;quiet', but ';' separates classes; change it"),
    ],
)
def test_unusable_tables_are_errors(content: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=rf"^--class-names .*names\.csv(: |, ){message}"):
        named(tmp_path, content, "01", "02", multi_label=True)


@pytest.mark.parametrize(
    "content, new",
    [
        ("english,deutsch\ndog,Hund\ncat,Katze\n", None),
        ("english,name\ndog,Hund\ncat,Katze\n", "Hund"),
        ("dog,Hund\ncat,Katze\n", "Hund"),
        ("code,name\n01,dog\n02,cat\n", None),
        ("code,class\n01,dog\n02,cat\n03,cat\n", None),
        ("index,mid,display_name\n0,/m/1,dog\n1,/m/2,cat\n", None),
        ("/m/1,dog\n/m/2,cat\n", None),
        ("01,dog\n02,cat\n", None),
        ("word,name\ndog,1\ncat,2\n", "1"),  # said so by the header
        ("dog,cat\n", "cat"),  # one class of two
    ],
)
def test_classes_that_are_names_are_not_renamed_to_codes(content: str, new: str | None, tmp_path: Path):
    if new is None:
        with pytest.raises(UserError, match=r"they have names already; leave out --class-names, or"):
            named(tmp_path, content, "dog", "cat")
    else:
        assert named(tmp_path, content, "dog", "cat")["dog"] == new


def test_two_columns_of_classes_are_an_error(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"which of its columns 'first', 'other' has the classes of the data\?"
    ):
        named(tmp_path, "first,other,name\n1,2,calm\n2,1,angry\n", "1", "2")
    same = "code,id,name\n1,1,calm\n2,2,angry\n"
    assert named(tmp_path, same, "1", "2") == {"1": "calm", "2": "angry"}


@pytest.mark.parametrize(
    "content, name",
    [
        (",code,name\n0,2.0,angry\n1,3.0,calm\n2,1.0,happy\n3,0.0,sad\n", "names.csv"),
        ("index,code,name\n0,002,angry\n1,003,calm\n2,001,happy\n3,000,sad\n", "names.csv"),
        ("code,name,order\n02,angry,0\n03,calm,1\n01,happy,2\n00,sad,3\n", "names.csv"),
        ("id,code,name\n0,02,angry\n1,03,calm\n2,01,happy\n3,00,sad\n", "names.csv"),
        (",code,emotion\n7,2,angry\n8,3,calm\n9,1,happy\n10,0,sad\n", "names.csv"),
        ("code;emotion;;\n2;angry;;\n3;calm;;\n1;happy;;\n0;sad;;\n", "names.csv"),
        ("code,emotion,label\n2,angry,0\n3,calm,1\n1,happy,2\n0,sad,3\n", "names.csv"),
        ("2,angry,/m/1\n3,calm,/m/2\n1,happy,/m/3\n0,sad,/m/4\n", "names.csv"),
        ("Unnamed: 0.1,Unnamed: 0,code,x\n0,0,2,angry\n1,1,3,calm\n2,2,1,happy\n3,3,0,sad\n", "names.csv"),
        ("code,name\n2,angry\n2,\n3,calm\n1,happy\n0,sad\n", "names.csv"),
        ('{"id2label": ["sad", "happy", "angry", "calm"]}', "config.json"),
        ('["sad", "happy", "angry", "calm"]', "names.json"),
    ],
)
def test_other_numbers_are_not_the_codes(content: str, name: str, tmp_path: Path):
    names = {"0": "sad", "1": "happy", "2": "angry", "3": "calm"}
    assert named(tmp_path, content, *names, name=name) == names


@pytest.mark.parametrize(
    "content",
    [
        "class,label\ndog,0\ncat,1\n",
        "name,label\ndog,0\ncat,1\n",
        "species,class\ndog,/m/1\ncat,/m/2\n",
        "code,pet\nDOG,dog\nCAT,cat\n",
        "name,class\ndog,DOG\ncat,CAT\n",
        "common_name,scientific_name\ndog,Canis\ncat,Felis\n",
        "file,fold,target,category\na.wav,1,0,dog\nb.wav,2,1,cat\n",
    ],
)
def test_classes_that_are_words_have_names_already(content: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"has the classes of the data: they have names already"):
        named(tmp_path, content, "dog", "cat")


def test_rows_of_json_are_compared_from_the_first_on(tmp_path: Path):
    rows = '[{"order": 1, "x": 2, "name": "a"}, {"order": 5, "x": 5, "name": "b"}]'
    with pytest.raises(UserError, match=r"which of its columns 'order', 'x' has the classes of the data\?"):
        named(tmp_path, rows, "1", "2", "5", name="names.json")


def test_classes_that_become_one_are_a_warning(tmp_path: Path):
    touch(tmp_path, "a/1.wav", "b/1.wav", "c/1.wav")
    (tmp_path / "names.csv").write_text("a,pet\nb,pet\nc,rain\n")
    manifest = read_manifest(tmp_path, ManifestConfig(class_names=tmp_path / "names.csv"))
    assert any(text.endswith("names 'a', 'b' 'pet', which become one class") for text in manifest.warnings)


def test_messages_have_the_line_of_the_file(tmp_path: Path):
    with pytest.raises(UserError, match=r"names\.csv, line 2: class 'a' has no name; write one, or remove"):
        named(tmp_path, "\na,\nb,bee\n", "a", "b")
    with pytest.raises(UserError, match=r"names\.json: class 'a' has no name"):
        named(tmp_path, '{"a": "", "b": "bee"}', "a", "b", name="names.json")


def test_classes_of_a_dataset_have_their_names(tmp_path: Path):
    data = tmp_path / "data"
    touch(data, "03-05-1.wav", "03-03-1.wav", "03-08-1.wav", "03-01-1.wav")
    (tmp_path / "names.csv").write_text("code,name\n05,angry\n03,happy\n08,calm\n02,calm\n01,calm\n")
    config = ManifestConfig(label_pattern=r"-(\d+)-", class_names=tmp_path / "names.csv")
    manifest = read_manifest(data, config)
    # Two codes of one name are one class.
    assert labels(manifest) == {
        "03-01-1.wav": "calm",
        "03-03-1.wav": "happy",
        "03-05-1.wav": "angry",
        "03-08-1.wav": "calm",
    }
    assert manifest.class_names == ["angry", "calm", "happy"]


def test_classes_without_a_name_keep_their_code_with_a_warning(tmp_path: Path):
    touch(tmp_path, "a/1.wav", "b/1.wav")
    (tmp_path / "names.csv").write_text("code,name\na,apple\n")
    manifest = read_manifest(tmp_path, ManifestConfig(class_names=tmp_path / "names.csv"))
    assert labels(manifest) == {"a/1.wav": "apple", "b/1.wav": "b"}
    assert any(
        warning.endswith("names.csv has no name for 'b', which stay as they are")
        for warning in manifest.warnings
    )


AUDIOSET = (
    '# YTID, start_seconds, end_seconds, positive_labels\nx, 0, 10, "/m/09x0r,/m/07r04"\ny, 0, 10, /m/09x0r\n'
)
INDICES = 'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/07r04,"Truck, lorry"\n'


def test_several_classes_of_a_clip_have_their_names(tmp_path: Path):
    touch(tmp_path, "x.wav", "y.wav")
    (tmp_path / "segments.csv").write_text(AUDIOSET)
    (tmp_path / "class_labels_indices.csv").write_text(INDICES)
    config = ManifestConfig(multi_label=True)
    codes = read_manifest(tmp_path / "segments.csv", config)
    assert set(labels(codes).values()) == {"/m/07r04;/m/09x0r", "/m/09x0r"}
    assert any("add --class-names FILE for words" in warning for warning in codes.warnings)
    config = ManifestConfig(multi_label=True, class_names=tmp_path / "class_labels_indices.csv")
    manifest = read_manifest(tmp_path / "segments.csv", config)
    assert set(labels(manifest).values()) == {"Speech;Truck, lorry", "Speech"}
    assert manifest.class_names == ["Speech", "Truck, lorry"]
    assert not any("--class-names" in warning for warning in manifest.warnings)


def test_events_have_names_of_classes(tmp_path: Path):
    touch(tmp_path, "rec.wav")
    (tmp_path / "rec.txt").write_text("0.5\t1.5\tq1\n2\t3\tq2\n")
    (tmp_path / "names.csv").write_text("q1,owl\nq2,rook\n")
    config = ManifestConfig(annotations="auto", window=1, class_names=tmp_path / "names.csv")
    manifest = read_manifest(tmp_path, config)
    assert manifest.events == {"rec.wav": [Annotation(0.5, 1.5, "owl"), Annotation(2.0, 3.0, "rook")]}
    assert manifest.class_names == ["owl", "rook"]


def test_recordings_without_classes_need_no_names(tmp_path: Path):
    touch(tmp_path, "rec.wav")
    (tmp_path / "rec.txt").write_text("")
    (tmp_path / "names.csv").write_text("q1,owl\n")
    config = ManifestConfig(annotations="auto", window=1, class_names=tmp_path / "names.csv")
    assert read_manifest(tmp_path, config).class_names == []

"""CSVs with several rows per file: events, several classes, and what stays as it was without them."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from pipeline.data.manifest import Manifest, ManifestConfig, read_manifest
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from tests.pipeline.data.test_manifest import labels, touch


def read(root: Path, text: str, **settings: object) -> Manifest:
    touch(root, "a.wav", "b.wav", "c.wav", "d.wav")
    (root / "clips.csv").write_bytes(text.encode())
    return read_manifest(root / "clips.csv", ManifestConfig(**settings))


@pytest.mark.parametrize("column", ["event_labels", "Event Labels", "labels", "weak-labels"])
@pytest.mark.parametrize("form", ["dog,cat", "dog, cat", "dog;cat", "dog|cat", "['dog', 'cat']"])
def test_columns_of_labels_have_lists(column: str, form: str, tmp_path: Path):
    text = f'path,{column}\na.wav,"{form}"\nb.wav,rain\nc.wav,\n'
    manifest = read(tmp_path, text, multi_label=True, label_column=column)
    assert labels(manifest) == {"a.wav": "cat;dog", "b.wav": "rain", "c.wav": ""}


@pytest.mark.parametrize("column", ["event_labels", "Event Labels", "class_labels", "weak_labels"])
def test_only_column_of_lists_has_the_classes(column: str, tmp_path: Path):
    """Weak labels of DCASE and DESED are `filename,event_labels`."""
    text = f"filename\t{column}\tflag\na.wav\tdog,cat\t1\nb.wav\train\t0\n"
    manifest = read(tmp_path, text, multi_label=True)
    assert labels(manifest) == {"a.wav": "cat;dog", "b.wav": "rain"}
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert str(error.value) == (
        f"--data {tmp_path / 'clips.csv'}: column '{column}' may have several classes in a row: "
        "add --multi-label, or name another column by --label-column; line 2 has 'dog,cat'"
    )
    text = f"{text.replace(column, 'event_label', 1)}".replace("flag", "event_labels")
    assert labels(read(tmp_path, text, multi_label=True)) == {"a.wav": "dog,cat", "b.wav": "rain"}


def test_comma_is_part_of_a_class_in_other_columns(tmp_path: Path):
    text = 'path,instrument\na.wav,"Cello, bowed"\nb.wav,Harp\n'
    manifest = read(tmp_path, text, multi_label=True, label_column="instrument")
    assert labels(manifest) == {"a.wav": "Cello, bowed", "b.wav": "Harp"}
    text = text.replace("instrument", "event_labels")
    manifest = read(tmp_path, text, label_column="event_labels")  # one class in each row
    assert labels(manifest) == {"a.wav": "Cello, bowed", "b.wav": "Harp"}


@pytest.mark.parametrize(
    "header",
    [
        "path,label,start,end",
        "filename,species,begin,end",
        "Begin File,Species,Begin Time (s),End Time (s)",
        "file,event_label,onset,offset",
        "Path,Class,Start (s),End (s)",
    ],
)
def test_events_are_read_by_usual_column_names(header: str, tmp_path: Path):
    rows = "b.wav,dog,5,6\r\na.wav,dog;cat,1.5,2\na.wav,rain,0.5,0.5\n"
    manifest = read(tmp_path, f"{header}\r\n{rows}", window=5.0)
    assert manifest.events == {
        "a.wav": [(1.5, 2.0, "cat;dog"), (0.5, 0.5, "rain")],
        "b.wav": [(5.0, 6.0, "dog")],
    }
    assert labels(manifest) == {"a.wav": "cat;dog;rain", "b.wav": "dog"}
    assert manifest.multi_label


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("path,label,start,duration", "a.wav,dog,1.5,0.5\na.wav,cat,3,0\n"),
        ("filename;species;Offset (s);Duration (s)", "a.wav;dog;1,5;0,5\na.wav;cat;3;0\n"),
        # An end counts, whatever is said about the duration.
        ("file,label,onset,offset,duration", "a.wav,dog,1.5,2,9\na.wav,cat,3,3,9\n"),
        ("path,label,start_ms,end_ms", "a.wav,dog,1500,2000\na.wav,cat,3000,3000\n"),
        ("path,label,Start (ms),Duration (ms)", "a.wav,dog,1500,500\na.wav,cat,3000,0\n"),
        ("Filename,StartTime,EndTime,Label", "a.wav,1.5,2,dog\na.wav,3,3,cat\n"),
        ("path,label,begintime_ms,endtime_ms", "a.wav,dog,1500,2000\na.wav,cat,3000,3000\n"),
        # Kaleidoscope
        (
            "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,TOP1MATCH,MANUAL ID",
            "D:\\x,,a.wav,0,1.5,0.5,owl,dog\nD:\\x,,a.wav,0,3,0,owl,cat\n",
        ),
    ],
)
def test_events_have_an_end_or_a_duration(header: str, rows: str, tmp_path: Path):
    manifest = read(tmp_path, f"{header}\n{rows}", window=5.0)
    assert manifest.events == {"a.wav": [(1.5, 2.0, "dog"), (3.0, 3.0, "cat")]}


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("path,label,start_time,end_time,offset", "a.wav,dog,1,2,9"),
        ("path,label,offset,start_time,end_time", "a.wav,dog,9,1,2"),
        ("path,label,begin,end,offset", "a.wav,dog,1,2,9"),
        ("path,label,t_min,t_max,offset", "a.wav,dog,1,2,9"),
        ("path,label,start,end_time,offset", "a.wav,dog,1,2,9"),
        ("path,label,onset,offset,end", "a.wav,dog,1,2,9"),
        ("path,label,onset,offset,start_time", "a.wav,dog,1,2,9"),
        ("path,label,start,onset,offset", "a.wav,dog,9,1,2"),
        ("path,label,Start (s),End (s),end", "a.wav,dog,1,2,9"),
        ("path,label,start_time,stop_time,end", "a.wav,dog,1,2,9"),
        ("path,label,start,offset", "a.wav,dog,1,2"),
        # The start of the window that was annotated, or of the file in its sequence.
        ("path,label,start,duration,offset", "a.wav,dog,1,1,9"),
        ("path,label,begin_time,end_time,duration,offset", "a.wav,dog,1,2,9,9"),
    ],
)
def test_start_and_end_belong_to_each_other(header: str, row: str, tmp_path: Path):
    assert read(tmp_path, f"{header}\n{row}\n", window=5.0).events == {"a.wav": [(1.0, 2.0, "dog")]}


def test_files_of_kaleidoscope_are_in_their_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    touch(tmp_path / "one" / "two", "a.wav")
    header = "FOLDER,IN FILE,OFFSET,DURATION,MANUAL ID"
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "melray"):
        manifest = read(tmp_path, f"{header}\none\\two,a.wav,1,2,dog\n,a.wav,3,4,cat\n", window=5.0)
    logger.removeHandler(caplog.handler)
    assert manifest.events == {"one/two/a.wav": [(1.0, 3.0, "dog")], "a.wav": [(3.0, 7.0, "cat")]}
    assert "columns IN FILE as path, MANUAL ID as label" in caplog.text and "ignored" not in caplog.text


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "start_sample,end_sample",
            r"column 'start_sample': times are read in seconds or milliseconds",
        ),
        (
            "Begin Frame,End Frame",
            r"column 'Begin Frame': times are read in seconds or milliseconds",
        ),
        ("start_min,end_min", r"column 'start_min': times are read in seconds or milliseconds; convert them"),
        ("start_ms,end_s", r"columns 'start_ms' and 'end_s' have different units; convert one of them"),
    ],
)
def test_times_in_other_units_are_refused(header: str, message: str, tmp_path: Path):
    """Without them, all windows of a file would have all of its classes."""
    table = f"path,label,{header}\na.wav,dog,1,2\n"
    with pytest.raises(UserError, match=message):
        read(tmp_path, table, window=5.0)
    with pytest.raises(UserError, match=message):
        read(tmp_path, table, window=5.0, multi_label=True)
    assert labels(read(tmp_path, table)) == {"a.wav": "dog"}


def test_negative_durations_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"clips\.csv, line 2: the duration -1 is negative; correct it$"):
        read(tmp_path, "path,label,start,duration\na.wav,dog,1,-1\n", window=5.0)


def test_missing_column_names_the_form_of_events(tmp_path: Path):
    with pytest.raises(
        UserError,
        match=r"no column 'path'; the first line must be path,start,end,label, not 'sound,start,end,label'; "
        "file, filename or filepath are also read as path",
    ):
        read(tmp_path, "sound,start,end,label\na.wav,1,2,dog\n", window=5.0)


def test_rows_without_times_are_about_the_file(tmp_path: Path):
    manifest = read(
        tmp_path, "path,label,start,end\na.wav,dog,,\nb.wav,,,\nc.wav,,1,2\nd.wav,cat,1,2\n", window=5.0
    )
    assert manifest.events == {
        "a.wav": [(0.0, math.inf, "dog")],
        "b.wav": [],
        "c.wav": [(1.0, 2.0, "")],
        "d.wav": [(1.0, 2.0, "cat")],
    }


def test_rows_that_state_no_event_have_none(tmp_path: Path):
    manifest = read(
        tmp_path, "path,label,start,end\na.wav,nocall,0,3\nb.wav,nocall,,\nb.wav,dog,1,2\n", window=5.0
    )
    assert manifest.events == {"a.wav": [], "b.wav": [(1.0, 2.0, "dog")]}


def test_decimal_commas_are_read(tmp_path: Path):
    manifest = read(tmp_path, "path;label;start;end\na.wav;dog;1,5;2,25\n", window=5.0)
    assert manifest.events == {"a.wav": [(1.5, 2.25, "dog")]}


def test_rows_of_a_file_are_merged_with_multi_label(tmp_path: Path):
    text = "path,label,fold,group\na.wav,dog,1,x\na.wav,cat;rain,1,x\nb.wav,dog; cat ,2,\nc.wav,,,\n"
    manifest = read(tmp_path, text, multi_label=True)
    assert labels(manifest) == {"a.wav": "cat;dog;rain", "b.wav": "cat;dog", "c.wav": ""}
    assert manifest.clips["fold"].tolist() == [1, 2, -1]
    assert manifest.clips["group"].tolist() == ["x", "b.wav", "c.wav"]
    assert manifest.class_counts == {"cat": 2, "dog": 2, "rain": 1}


def test_names_of_one_file_are_one_recording(tmp_path: Path):
    rows = "a,dog,1,2\n./a.wav,cat,3,4\nb.wav,cat,1,2\na.wav,dog,5,6\n"
    for settings in ({"window": 5.0}, {"multi_label": True}):
        manifest = read(tmp_path, f"path,label,start,end\n{rows}", **settings)
        assert labels(manifest) == {"a.wav": "cat;dog", "b.wav": "cat"}
        assert manifest.clips["group"].tolist() == ["a.wav", "b.wav"]
    manifest = read(tmp_path, f"path,label,start,end\n{rows}", window=5.0)
    assert manifest.events == {
        "a.wav": [(1.0, 2.0, "dog"), (3.0, 4.0, "cat"), (5.0, 6.0, "dog")],
        "b.wav": [(1.0, 2.0, "cat")],
    }
    text = "path,label,group\na,dog,x\na.wav,cat,{}\n"
    assert read(tmp_path, text.format("x"), multi_label=True).clips["group"].tolist() == ["x"]
    with pytest.raises(UserError, match=r"rows of 'a\.wav' have different folds or groups"):
        read(tmp_path, text.format("y"), multi_label=True)
    (tmp_path / "events.csv").write_text(f"path,label,start,end\n{rows}{tmp_path}/b.wav,dog,7,8\n")
    config = ManifestConfig(window=5.0, annotations=tmp_path / "events.csv")
    assert labels(read_manifest(tmp_path, config)) == {"a.wav": "cat;dog", "b.wav": "cat;dog"}


def test_files_that_a_table_tells_apart_by_case_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"'A\.wav' does not exist, only '.*/a\.wav', which has another row"):
        read(tmp_path, "path,label\na.wav,dog\nA.wav,cat\n", multi_label=True)


def test_rows_of_other_splits_are_left_out(tmp_path: Path):
    text = "path,label,start,end,subset\na.wav,dog,1,2,train\nb.wav,cat,3,4,dev-clean\n"
    assert labels(read(tmp_path, text, window=5.0)) == {"a.wav": "dog"}
    with pytest.raises(UserError, match=r"column 'subset' names splits .*, but not in all rows \('odd': 1\)"):
        read(tmp_path, text + "c.wav,cat,3,4,odd\n", window=5.0)


@pytest.mark.parametrize("name", ["a.wav", "./a.wav", " a.wav "])
@pytest.mark.parametrize("settings", [{"window": 0.5}, {"multi_label": True}, {}])
def test_rows_of_a_file_in_several_splits_are_refused(name: str, settings: dict[str, object], tmp_path: Path):
    """Otherwise its held-out events would be background, and the file be trained on and held out."""
    header = "path,label,start,end,split" if "window" in settings else "path,label,note,text,split"
    text = f"{header}\na.wav,dog,0,1,train\n{name},cat,2,3,test\nb.wav,dog,0,1,train\n"
    message = "1 file with rows of the training split and of others, e.g. 'a.wav'; all rows of a file need"
    with pytest.raises(UserError, match=message):
        read(tmp_path, text, **settings)
    other = read(tmp_path, text.replace(name + ",cat", "c.wav,cat"), **settings)
    assert labels(other) == {"a.wav": "dog", "b.wav": "dog"}


def test_one_label_tables_stay_as_they_were(tmp_path: Path):
    manifest = read(tmp_path, "path,label,start,end\na.wav,dog;cat,1,2\nb.wav,rain,5,3\n")
    assert labels(manifest) == {"a.wav": "dog;cat", "b.wav": "rain"}
    assert manifest.events is None and not manifest.multi_label
    assert manifest.class_names == ["dog;cat", "rain"]
    with pytest.raises(
        UserError, match=r"1 duplicate paths, e\.g\. 'a\.wav'; list each path in one row only"
    ):
        read(tmp_path, "path,label\na.wav,dog\na.wav,cat\n")
    with pytest.raises(UserError, match="line 2: label is empty"):
        read(tmp_path, "path,label\na.wav,\n")


def test_label_column_is_named_by_flag(tmp_path: Path):
    text = "path,label,call\na.wav,dog,bark\nb.wav,cat,meow\n"
    assert labels(read(tmp_path, text, label_column="Call")) == {"a.wav": "bark", "b.wav": "meow"}
    assert labels(read(tmp_path, text, label_column="call", multi_label=True))["a.wav"] == "bark"
    with pytest.raises(UserError, match="no column 'cry', as --label-column requests"):
        read(tmp_path, text, label_column="cry")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,start,end\na.wav,x,1,2\na.wav,dog,5,3\n", r"clips\.csv, line 3: the end 3 is before"),
        ("path,label,start,end\na.wav,dog,5,\n", r"clips\.csv, line 2: time '' is not a number"),
        ("path,label,start\na.wav,dog,5\n", r"a column 'start', but none 'end'"),
        ("path,label,start,end,fold\na.wav,x,1,2,1\na.wav,x,2,3,2\n", r"'a\.wav' have different folds"),
        ("path,label,start,end\nx.wav,dog,5,6\n", r"none of the 1 listed files exists"),
    ],
)
def test_invalid_event_names_the_line(text: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text, window=5.0)


def test_events_of_missing_audio_are_reported_once(tmp_path: Path):
    manifest = read(
        tmp_path, "path,label,start,end\na.wav,x,1,2\ngone.wav,x,1,2\ngone.wav,x,3,4\n", window=5.0
    )
    assert "1 of 2 listed files do not exist" in manifest.warnings[0]


def test_raven_table_of_several_files_has_offsets(tmp_path: Path):
    text = (
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation\n"
        "1\t1\t2\ta.wav\t1\tdog\n2\t63\t64.5\tb.wav\t3\tcat\n"
    )
    manifest = read(tmp_path, text, window=5.0)
    assert manifest.events == {"a.wav": [(1.0, 2.0, "dog")], "b.wav": [(3.0, 4.5, "cat")]}

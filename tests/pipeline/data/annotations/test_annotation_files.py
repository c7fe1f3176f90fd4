"""Annotation files as Raven, BirdNET, Audacity and people write them; errors name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.annotations.annotation import Annotation
from pipeline.data.annotations.annotation_files import read_annotation_file
from pipeline.io.errors import UserError

RAVEN = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
    "1\tWaveform 1\t1\t1.25\t2.5\t0\t11025\tdog\n"
    "1\tSpectrogram 1\t1\t1.25\t2.5\t500\t3000\tdog\n"
    "2\tSpectrogram 1\t1\t0.5\t0.75\t500\t3000\tcat; dog\n"
)
BIRDNET = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\t"
    "Species Code\tConfidence\tBegin Path\tFile Offset (s)\n"
    "1\tSpectrogram 1\t1\t3.0\t6.0\t0\t15000\tHouse Finch\thoufin\t0.6\t/data/rec.wav\t3.0\n"
    "2\tSpectrogram 1\t1\t123.0\t126.0\t0\t15000\tBlue Jay\tblujay\t0.9\tC:\\data\\Other.wav\t3.0\n"
)


def read(
    tmp_path: Path, text: str, column: str | None = None, encoding: str = "utf-8"
) -> list[tuple[float, float, str]]:
    path = tmp_path / "rec.txt"
    path.write_bytes(text.encode(encoding))
    events = read_annotation_file(path, "rec.wav", column)
    assert all(isinstance(event, Annotation) for event in events)
    return [tuple(event) for event in events]


def test_raven_selection_of_two_views_counts_once(tmp_path: Path):
    assert read(tmp_path, RAVEN) == [(1.25, 2.5, "dog"), (0.5, 0.75, "cat;dog")]


def test_labeled_view_of_raven_selection_is_kept(tmp_path: Path):
    text = RAVEN.replace("0\t11025\tdog", "0\t11025\t")
    assert read(tmp_path, text) == [(1.25, 2.5, "dog"), (0.5, 0.75, "cat;dog")]


def test_selection_has_the_classes_of_all_its_rows(tmp_path: Path):
    text = RAVEN.replace("500\t3000\tdog", "500\t3000\tcat")
    assert read(tmp_path, text) == [(1.25, 2.5, "cat;dog"), (0.5, 0.75, "cat;dog")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_windows_line_ends_and_marks_are_read(encoding: str, tmp_path: Path):
    expected = read(tmp_path, RAVEN)
    assert read(tmp_path, RAVEN.replace("\n", "\r\n"), encoding=encoding) == expected
    labels = "0.5\t1.5\té\r\n"
    assert read(tmp_path, labels, encoding=encoding) == [(0.5, 1.5, "é")]


def test_label_column_is_chosen_or_named(tmp_path: Path):
    text = "Begin Time (s)\tEnd Time (s)\tNotes\tCall Type\tAnnotation\n1\t2\tloud\tsong\tfinch\n"
    assert read(tmp_path, text) == [(1.0, 2.0, "finch")]
    assert read(tmp_path, text, "call type") == [(1.0, 2.0, "song")]
    with pytest.raises(
        UserError, match=r"rec\.txt: no column 'Kind', as --label-column requests; its columns"
    ):
        read(tmp_path, text, "Kind")
    with pytest.raises(UserError, match=r"rec\.txt: no column of classes; name it by --label-column, one of"):
        read(tmp_path, "Begin Time (s)\tEnd Time (s)\tRemarks\n1\t2\tx\n")


def test_birdnet_table_of_several_files_has_own_rows(tmp_path: Path):
    assert read(tmp_path, BIRDNET) == [(3.0, 6.0, "House Finch")]
    assert read(tmp_path, BIRDNET.replace("rec.wav", "REC.flac")) == [(3.0, 6.0, "House Finch")]


@pytest.mark.parametrize("header", ["File", "filename", "Path", "recording"])
def test_table_of_several_files_by_other_columns_has_own_rows(header: str, tmp_path: Path):
    text = f"{header},start,end,label\ndata/rec.wav,1,2,dog\ndata/other.wav,3,4,cat\n"
    assert read(tmp_path, text) == [(1.0, 2.0, "dog")]


@pytest.mark.parametrize(
    ("recording", "labels"),
    [
        ("/data/site 1/rec.wav", ["dog"]),
        ("site 2/rec.wav", ["cat"]),
        ("rec.wav", ["dog", "cat"]),  # both may be it, before it was moved
        ("/data/site 3/rec.wav", ["dog", "cat"]),
    ],
)
def test_rows_of_equal_names_are_found_by_folder(recording: str, labels: list[str], tmp_path: Path):
    path = tmp_path / "all.csv"
    rows = ["D:\\rec\\Site 1\\rec.wav,1,2,dog", "D:\\rec\\Site 2\\rec.wav,3,4,cat", "D:\\x.wav,5,6,rain"]
    path.write_text("\n".join(["file,start,end,label", *rows]), encoding="utf-8")
    assert [event.label for event in read_annotation_file(path, recording)] == labels
    path.write_text("\n".join(["file,start,end,label", *rows[:2]]), encoding="utf-8")
    assert [event.label for event in read_annotation_file(path, recording)] == labels


def test_column_of_event_numbers_is_no_column_of_files(tmp_path: Path):
    text = "id,start,end,label\n1,1,2,dog\n2,3,4,cat\n"
    assert read(tmp_path, text) == [(1.0, 2.0, "dog"), (3.0, 4.0, "cat")]


def test_table_of_other_files_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"events are in 'x\.wav', 'C:.*Other\.wav', none of .* 'rec\.wav'"):
        read(tmp_path, BIRDNET.replace("/data/rec.wav", "x.wav"))
    # Of a single file, which may have been renamed since.
    assert read(tmp_path, BIRDNET.replace("/data/rec.wav", "other.wav"))[0] == (3.0, 6.0, "House Finch")


def test_event_in_no_file_of_several_is_refused(tmp_path: Path):
    unnamed = "3\tSpectrogram 1\t1\t7.0\t8.0\t0\t15000\tBlue Jay\tblujay\t0.9\t\t7.0\n"
    with pytest.raises(UserError, match=r"rec\.txt, line 4: names no file, but other lines name 2 files"):
        read(tmp_path, BIRDNET + unnamed)
    one = "".join(BIRDNET.splitlines(keepends=True)[:2])
    assert read(tmp_path, one + unnamed)[1] == (7.0, 8.0, "Blue Jay")


def test_birdnet_file_without_detection_has_no_events(tmp_path: Path):
    header = BIRDNET.splitlines()[0]
    row = "1\tSpectrogram 1\t1\t0\t3\t0\t15000\tnocall\tnocall\t1.0\t/data/rec.wav\t0"
    assert read(tmp_path, f"{header}\n{row}\n") == []
    assert read(tmp_path, "0\t3\tnocall\n3\t6\tBlue Jay\n") == [(3.0, 6.0, "Blue Jay")]


def test_quotes_in_raven_table_are_characters(tmp_path: Path):
    names = ['"chip" call', '5" call', '"', '"a ""b"""']  # the last one as other programs write it
    rows = [f"{i}\tSpectrogram 1\t1\t{i}\t{i + 1}\t0\t1\t{name}\n" for i, name in enumerate(names)]
    expected = ['"chip" call', '5" call', '"', 'a "b"']
    assert [label for _, _, label in read(tmp_path, RAVEN.splitlines()[0] + "\n" + "".join(rows))] == expected


def test_file_offset_replaces_time_in_file_sequence(tmp_path: Path):
    text = BIRDNET.replace("/data/rec.wav", "other.wav").replace("C:\\data\\Other.wav", "rec.wav")
    assert read(tmp_path, text) == [(3.0, 6.0, "Blue Jay")]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("Start (s),End (s),Scientific name,Common name,Confidence", "1.5,2,Poecile,Chickadee,0.9"),
        ("onset\toffset\tevent_label", "1.5\t2\tChickadee"),
        ("begin;end;class", '"1,5";"2,0";Chickadee'),
        ("start_time,end_time,tag", "1.5,2.0,Chickadee"),
        ("t_min,f_min,t_max,f_max,species", "1.5,80,2.0,900,Chickadee"),
        ("StartTime,EndTime,Species", "1.5,2.0,Chickadee"),
        ("tmin,type,tmax", "1.5,Chickadee,2.0"),
        ("start,end,instrument", "1.5,2.0,Chickadee"),
        ("start,end,emotion,speaker", "1.5,2.0,Chickadee,7"),
        ("start,end,emotion,species", "1.5,2.0,sad,Chickadee"),
        ("Selection\tView\tBegin Time (s)\tDelta Time (s)\tSpecies", "1\tSpectrogram 1\t1.5\t0.5\tChickadee"),
        (
            "Selection\tBegin Time (s)\tEnd Time (s)\tDelta Time (s)\tSpecies",
            "1\t1.5\t2.0\t0.5000\tChickadee",
        ),
    ],
)
def test_other_tables_of_events_are_read(header: str, rows: str, tmp_path: Path):
    assert read(tmp_path, f"{header}\n{rows}\n") == [(1.5, 2.0, "Chickadee")]


def test_several_kinds_of_classes_need_a_choice(tmp_path: Path):
    text = "start,end,genre,instrument\n1.5,2.0,jazz,piano\n"
    with pytest.raises(UserError, match=r"'genre', 'instrument' can be the classes; name .* --label-column"):
        read(tmp_path, text)


def test_audacity_labels_are_read(tmp_path: Path):
    text = (
        "3.5\t3.5\tdog\n"  # a point
        "\\\t500.0\t3000.0\n"  # its frequencies
        "1,25\t2,5\tdog;cat\n\n"
        "0.5\t0.75\n"
    )
    assert read(tmp_path, text) == [(3.5, 3.5, "dog"), (1.25, 2.5, "cat;dog"), (0.5, 0.75, "")]


def test_confidence_after_audacity_label_is_no_class(tmp_path: Path):
    text = "0.0\t3.0\tTurdus merula, Blackbird\t0.8973\n3.0\t6.0\t2\n6.0\t9.0\ttwo\twords\n"
    assert [label for _, _, label in read(tmp_path, text)] == ["Turdus merula, Blackbird", "2", "two words"]


@pytest.mark.parametrize("text", ["", "\n", RAVEN.splitlines()[0], RAVEN.splitlines()[0] + "\r\n"])
def test_empty_file_has_no_events(text: str, tmp_path: Path):
    assert read(tmp_path, text) == []


@pytest.mark.parametrize("label", ["", " ", "nan", ";", " ; "])
def test_missing_class_is_empty(label: str, tmp_path: Path):
    assert read(tmp_path, f"1\t2\t{label}\n") == [(1.0, 2.0, "")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t2\tdog\n5\t3\tcat\n", r"rec\.txt, line 2: the end 3 is before the start 5"),
        (
            RAVEN.replace("1.25\t2.5", "2.5\t1.25"),
            r"rec\.txt, line 2: the end 1\.25 is before the start 2\.5",
        ),
        ("1\t2\tdog\n1:05\t3\tcat\n", r"line 2: time '1:05' is not a number of seconds"),
        ("1\t2\tdog\ninf\tinf\tcat\n", r"line 2: time 'inf' is not a number of seconds"),
        (RAVEN.replace("0.75", ""), r"line 4: time '' is not a number of seconds, such as 12\.5"),
        (  # crackles and wheezes of ICBHI, the last of which would be taken for a confidence
            "0.036\t0.579\t0\t1\n0.579\t2.45\t1\t0\n",
            r"line 1: several numbers after the times \(0, 1\), none of which is the name of a class",
        ),
        ("1\t2\tdog\n3\n", r"line 2: expected start, tab, end, tab, label, not '3'"),
        ("Dear reader,\n", r"rec\.txt: neither a table with columns .* nor Audacity labels"),
        ("Begin Time (s)\tSpecies\n1\tx\n", r"a column 'Begin Time \(s\)', but none 'end'"),
    ],
)
def test_invalid_annotation_names_file_and_line(text: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)

"""Files of events have exactly the documented text, whatever recordings and classes are named."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from pipeline.classifier.windows.annotation_files import (
    AnnotationWriter,
    annotation_names,
    audacity_labels,
    raven_table,
)
from pipeline.classifier.windows.events import Event

NAMES = ("dog", "rain; heavy", 'bird\t"Amsel"\n', "Kauz ä")
EVENTS = [Event(0.0, 2.5, 0, 0.98765), Event(2.5, 7.125, 1, 0.5), Event(3.0, 5.0, 2, 1.0)]


def test_raven_table_has_documented_columns() -> None:
    # Raven Pro User's Manual, selection tables: tab-delimited text, a header, one row per selection with its
    # number, view, channel, bounds in seconds and hertz, then any further columns.
    assert raven_table(EVENTS, NAMES, (50.0, 11025.0)) == (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
        "Annotation\tScore\n"
        "1\tSpectrogram 1\t1\t0.000\t2.500\t50.0\t11025.0\tdog\t0.9877\n"
        "2\tSpectrogram 1\t1\t2.500\t7.125\t50.0\t11025.0\train; heavy\t0.5000\n"
        "3\tSpectrogram 1\t1\t3.000\t5.000\t50.0\t11025.0\tbird 'Amsel' \t1.0000\n"
    )


def test_raven_table_is_read_as_opensoundscape_does() -> None:
    # BoxedAnnotations.from_raven_files of opensoundscape 0.13 reads pandas.read_csv(file, delimiter="\t") and
    # renames these columns; the label column is given by its name.
    table = pd.read_csv(io.StringIO(raven_table(EVENTS, NAMES, (0.0, 4000.0))), delimiter="\t")
    columns = {"Begin Time (s)": "start_time", "End Time (s)": "end_time", "Annotation": "annotation"}
    table = table.rename(columns=columns | {"Low Freq (Hz)": "low_f", "High Freq (Hz)": "high_f"})
    assert table["start_time"].tolist() == [0.0, 2.5, 3.0] and table["end_time"].tolist() == [2.5, 7.125, 5.0]
    assert table["annotation"].tolist() == ["dog", "rain; heavy", "bird 'Amsel' "]
    assert set(table["low_f"]) == {0.0} and set(table["high_f"]) == {4000.0}


def test_audacity_labels_have_three_columns() -> None:
    # Audacity manual, importing and exporting labels: start, end and label, separated by tabs; no header.
    assert audacity_labels(EVENTS, NAMES) == (
        "0.000000\t2.500000\tdog\n2.500000\t7.125000\train; heavy\n3.000000\t5.000000\tbird 'Amsel' \n"
    )


def test_names_of_annotation_files_differ_and_stay_inside() -> None:
    ids = [
        "a/x.wav",
        "b/x.wav",
        "b/X.flac",
        "../../etc/passwd.wav",
        "/abs/Käuzchen.ogg",
        "con.wav",
        "q?.wav",
        "q*.wav",
    ]
    names = annotation_names([*ids, "n" * 300 + ".wav", "n" * 301 + ".wav", "", "."])
    assert names[:7] == ["a/x", "b/x.wav", "b/X.flac", "_/_/etc/passwd", "abs/Käuzchen", "_con", "q_"]
    assert names[7] == "q__2"
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        path = Path(name)
        assert not path.is_absolute() and ".." not in path.parts and name
        assert all(len(part.encode()) < 210 for part in path.parts)


def test_events_of_all_recordings_are_written(tmp_path: Path) -> None:
    ids = ["day 1/rec,1.wav", "day 2/rec.wav", "quiet.wav"]
    file = io.BytesIO()
    writer = AnnotationWriter(file, tmp_path, ids, NAMES, (0.0, 4000.0))
    writer.write([(0, EVENTS[:2])])
    writer.write([(1, [Event(1.0, 2.0, 2, 0.75)]), (2, [])])
    rows = list(csv.reader(io.StringIO(file.getvalue().decode())))
    assert rows == [
        ["id", "start", "end", "label", "probability"],
        ["day 1/rec,1.wav", "0", "2.5", "dog", "0.9877"],
        ["day 1/rec,1.wav", "2.5", "7.125", "rain; heavy", "0.5000"],
        ["day 2/rec.wav", "1", "2", 'bird\t"Amsel"\n', "0.7500"],
    ]
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt"))
    assert files == [
        "audacity/day 1/rec,1.txt",
        "audacity/day 2/rec.txt",
        "raven/day 1/rec,1.selections.txt",
        "raven/day 2/rec.selections.txt",
    ]
    assert (tmp_path / files[1]).read_text(encoding="utf-8") == "1.000000\t2.000000\tbird 'Amsel' \n"

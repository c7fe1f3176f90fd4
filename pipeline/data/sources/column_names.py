"""Names that people and programs give to the columns of tables of clips."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from pipeline.io.errors import UserError
from pipeline.io.table_files import Table

# Names of columns as by `plain_name`; the first one that a table has is used.
PATH_COLUMNS = (
    "path filepath file_path filename file_name fname file audio audio_path audio_file audio_filepath "
    "audio_file_path wav wav_path wav_file slice_file_name audio_filename audio_file_name mp3_path mp3_file "
    "clip clip_name clip_id recording_id id segment_id itemid uuid ytid"
).split()
LABEL_COLUMNS = "label primary_label class category class_name label_name target scene_label".split()
# What else columns of classes are named, by what the classes are: used if a table has those of one kind only,
# as others may say something else about a clip. The first column of a kind is used.
SUBJECT_COLUMNS = (
    ("species", "common_name", "scientific_name", "species_code", "ebird_code"),
    ("event_label", "sound_event", "event", "sound_type", "annotation"),
    ("emotion",),
    ("genre",),
    ("instrument",),
    ("keyword",),
    ("command",),
)
# Columns of all classes, or of those in addition to the first one: lists of names in one text.
LABEL_LIST_COLUMNS, MORE_LABEL_COLUMNS = ("labels",), ("secondary_labels",)
# The same (DCASE, DESED), used if a table has no other column of classes.
OTHER_LIST_COLUMNS = ("event_labels", "class_labels", "weak_labels", "positive_labels")
# Columns that name the recording a clip was cut from, also in ESC-50 (`src_file`) and UrbanSound8K (`fsID`).
RECORDING_COLUMNS = ("group", "src_file", "fsid")
# Column of the place that clips of acoustic scenes were recorded in (DCASE), next to that of the scenes.
SCENE_COLUMN, PLACE_COLUMN = "scene_label", "identifier"
ID_COLUMNS = ("clip_id", "id")
SPLIT_COLUMNS = ("split", "subset", "set", "partition")


def plain_name(name: str) -> str:
    """Return a name in lower case with `_` for all but letters and digits, such as `begin_time_s`."""
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def plain_names(table: Table) -> list[str]:
    """Return the names of the columns as by `plain_name`."""
    return list(map(plain_name, table.header))


def column_names(table: Table) -> list[str]:
    """Return the names of the columns as by `plain_name`, unless another column is named exactly so.

    Raises:
        UserError: two columns that are used have the same name.
    """
    names = ["_".join(name.lower().split()) for name in table.header]
    for position, column in enumerate(table.header):
        if (plain := plain_name(column)) not in names:
            names[position] = plain
    used = {*PATH_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS, *RECORDING_COLUMNS, "fold"}
    twice = [name for name, count in Counter(names).items() if count > 1 and name in used]
    if twice:
        raise UserError(f"{table.name}: two columns are named '{twice[0]}'; rename or remove one")
    return names


def first_column(names: Sequence[str], accepted: Sequence[str]) -> int | None:
    """Return the position of the first accepted name that is there."""
    return next((names.index(name) for name in accepted if name in names), None)


def has_lists(column: str) -> bool:
    """Return whether a column of any number of classes has lists of them, by its name, as `event_labels`."""
    return plain_name(column).split("_")[-1] in LABEL_LIST_COLUMNS

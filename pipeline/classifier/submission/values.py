"""Values of a submission: what a sample submission requests, by its header and its placeholder values.

| sample | values |
|---|---|
| one column for each class | probabilities |
| one column `probability`, or named like a class, or with numbers such as 0.5 | probability of one class |
| class names, placeholders such as `?`, or nothing | label |
| several class names in each row, such as `dog rain` | most probable labels (multi-label: above thresholds) |
| `nocall` (BirdCLEF), for a multi-label model | labels above thresholds, `nocall` in rows without any |
| whole numbers | unclear: class names, class indices or probabilities; the user must choose |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import pandas as pd

from pipeline.classifier.submission.class_names import (
    available,
    is_negative,
    match_classes,
    normal_form,
    unique_forms,
)
from pipeline.classifier.submission.filled_values import Values
from pipeline.classifier.submission.settings import CLASS_FLAG, VALUES_FLAG, SubmissionValues
from pipeline.data.annotations.annotation import states_no_event
from pipeline.data.clips import shown_list
from pipeline.data.labels import SEPARATOR
from pipeline.io.errors import UserError

LABEL_SEPARATORS = (",", ";", "|", " ")
# Headers in the form of `normal_form`.
PROBABILITY_HEADERS = {
    "p", "prob", "probs", "proba", "probability", "probabilities", "pred_proba", "confidence", "likelihood",
}  # fmt: skip
PROBABILITY_PREFIXES = PROBABILITY_HEADERS | {"is", "has"}
# Headers that name no class, even if the model has a class of that name.
LABEL_HEADERS = {
    "label", "labels", "class", "classes", "category", "target", "prediction", "species", "tag", "tags", "y",
}  # fmt: skip
PLACEHOLDERS = {"", "?", "-", "nan", "na", "n/a", "null", "none"}
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
# Classes in a note on the console.
MAX_NOTED = 20
WHOLE_NUMBER = re.compile(r"[+-]?\d+")


def choose_values(
    source: str,
    sample: pd.DataFrame,
    class_names: Sequence[str],
    requested: SubmissionValues = "auto",
    positive_class: str | None = None,
    multi_label: bool = False,
) -> Values:
    """Return what the columns of a sample submission are to be filled with.

    Args:
        source: flag and path of the sample, for messages.
        sample: columns to fill, as text.
        class_names: classes of the model.
        requested: choice of the user; `auto` follows the sample.
        positive_class: class of a single column of probabilities.
        multi_label: whether the model predicts any number of classes for a clip.

    Raises:
        UserError: the sample does not state what it requests, or requests what the model cannot give.
    """
    if positive_class is not None and positive_class not in class_names:
        raise UserError(f"{CLASS_FLAG} '{positive_class}': not a model class; {available(class_names)}")
    if positive_class is not None and (requested not in ("auto", "probability") or len(sample.columns) > 1):
        other = f"{source} has {shown_list(list(sample.columns))}"
        if requested not in ("auto", "probability"):
            other = f"{VALUES_FLAG} {requested} requests others"
        raise UserError(f"{CLASS_FLAG} {positive_class}: needs a single column of probabilities, but {other}")
    if len(sample.columns) > 1:
        return _class_columns(source, sample, class_names, requested)
    if requested == "index" and multi_label:
        raise UserError(f"{VALUES_FLAG} index: needs one class in each row, and the model predicts several")
    request = _SingleColumn(source, sample, class_names, positive_class, multi_label)
    if requested == "auto" and positive_class is not None:
        requested = "probability"
    return request.choose(requested)


def _class_columns(
    source: str, sample: pd.DataFrame, class_names: Sequence[str], requested: SubmissionValues
) -> Values:
    """Return the probabilities that one column per class requests."""
    columns = list(sample.columns)
    if requested in ("label", "labels", "index"):
        raise UserError(
            f"{VALUES_FLAG} {requested}: needs a single column besides the ids; "
            f"{source} has {shown_list(columns)}"
        )
    classes = match_classes(columns, class_names)
    matched = set(classes.values())
    missing = [name for name in class_names if name not in matched]
    extra = [column for column in columns if classes[column] is None]
    if len(extra) == len(columns):
        raise UserError(
            f"{source}: expected one column besides the ids, or one for each class; got "
            f"{shown_list(columns)}, of which none is a model class; {available(class_names)}"
        )
    if texts := [column for column in extra if _has_text(sample[column])]:
        raise UserError(
            f"{source}: {shown_list(texts)}: not a model class, and has texts, which are no probabilities: "
            "leave out the column"
        )
    problems = [f"{shown_list(extra)}: not a model class"] if extra else []
    problems += [f"no column for {shown_list(missing)}"] if missing else []
    if problems and requested == "auto":
        fixes = (["fill unknown ones with 0"] if extra else []) + (["omit the others"] if missing else [])
        raise UserError(
            f"{source}: {'; '.join(problems)}; {VALUES_FLAG} probability would {' and '.join(fixes)}"
        )
    return Values("probability", classes, warnings=[f"{source}: {problem}" for problem in problems])


def _has_text(values: pd.Series) -> bool:
    return any(value.lower() not in PLACEHOLDERS and not NUMBER.fullmatch(value) for value in values)


class _SingleColumn:
    """A sample submission with a single column to fill."""

    def __init__(
        self,
        source: str,
        sample: pd.DataFrame,
        class_names: Sequence[str],
        positive_class: str | None,
        multi_label: bool,
    ):
        """Collect the distinct values of the column, without placeholders."""
        self._multi_label = multi_label
        self._source, self._class_names, self._positive_class = source, class_names, positive_class
        self._classes = unique_forms(class_names)
        (self._column,) = sample.columns
        values = sorted(set(sample[self._column].str.strip()))
        self._values = [text for text in values if self._is_class(text) or text.lower() not in PLACEHOLDERS]
        self._no_label = ""
        if multi_label:
            stated = [text for text in self._values if states_no_event(text) and not self._is_class(text)]
            self._no_label = stated[0] if stated else ""
            self._values = [text for text in self._values if text not in stated]

    def choose(self, requested: SubmissionValues) -> Values:
        """Return what the column is filled with."""
        kind = self._recognize() if requested == "auto" else requested
        if kind == "probability":
            name = self._probability_class()
            note = f"column '{self._column}': probability of class '{name}'"
            return Values(kind, {self._column: name}, note=note)
        if self._multi_label and (kind == "labels" or (kind == "label" and self._no_label)):
            return self._present_labels()
        if kind == "labels":
            return self._several_labels(explicit=requested == "labels")
        if kind == "index":
            note = _index_note(self._class_names)
            warnings = self._index_warnings()
            return Values(kind, {self._column: None}, warnings=warnings, note=f"class indices: {note}")
        return Values(kind, {self._column: None}, warnings=self._warnings(self._values))

    def _recognize(self) -> Literal["label", "labels", "probability"]:
        numeric = all(NUMBER.fullmatch(value) for value in self._values)
        if numeric and (normal_form(self._column) in PROBABILITY_HEADERS or self._column_class() is not None):
            return "probability"
        if not self._values or not numeric:
            return "labels" if self._label_lists() else "label"
        if not all(WHOLE_NUMBER.fullmatch(value) for value in self._values):
            return "probability"
        if len(self._class_names) > 2 and set(self._values) <= set(self._class_names):
            return "label"
        raise UserError(
            f"{self._source}: the numbers in column '{self._column}', e.g. {self._values[0]}, may be labels, "
            f"class indices or probabilities; add {VALUES_FLAG} label, index or probability"
        )

    def _column_class(self) -> str | None:
        """Return the class that the column is named after, such as `dog` or `p_dog`."""
        form = normal_form(self._column)
        if form in LABEL_HEADERS:
            return None
        words = form.split("_")
        inner = words[1:] if words[0] in PROBABILITY_PREFIXES else words
        return self._classes.get(form) or self._classes.get("_".join(inner))

    def _probability_class(self) -> str:
        """Return the class whose probability the column requests."""
        if self._positive_class is not None:
            return self._positive_class
        if (named := self._column_class()) is not None:
            return named
        if len(self._class_names) <= 2:
            positive = [name for name in self._class_names if not is_negative(name, self._class_names)]
            if len(positive) == 1:
                return positive[0]
        raise UserError(
            f"{self._source}: column '{self._column}' requests the probability of one class; "
            f"add {CLASS_FLAG}; {available(self._class_names)}"
        )

    def _index_warnings(self) -> list[str]:
        """Return a warning if classes are numbers other than their indices."""
        names = self._class_names
        differing = [
            (i, name) for i, name in enumerate(names) if WHOLE_NUMBER.fullmatch(name) and name != f"{i}"
        ]
        if not differing:
            return []
        index, name = differing[0]
        return [f"{self._source}: the index of class '{name}' is {index}; {VALUES_FLAG} label writes {name}"]

    def _present_labels(self) -> Values:
        """Return the labels above their thresholds, with the separator of the sample."""
        separator, lists = self._label_lists() or (" " if self._no_label else SEPARATOR, [])
        joined = separator if separator == " " or not lists else _spacing(self._values, separator)
        warnings = self._warnings(sorted({label for labels in lists for label in labels}))
        column: dict[str, str | None] = {self._column: None}
        return Values("labels", column, 0, joined, warnings, multi_label=True, no_label=self._no_label)

    def _several_labels(self, explicit: bool) -> Values:
        """Return the most probable labels, the same number as in the rows of the sample."""
        found = self._label_lists()
        if found is None:
            raise UserError(f"{VALUES_FLAG} labels: {self._source} has no row with several class names")
        separator, lists = found
        counts = sorted({len(labels) for labels in lists})
        if len(counts) > 1 and not explicit:
            raise UserError(
                f"{self._source}: rows have {counts[0]} to {counts[-1]} labels; add {VALUES_FLAG} labels for "
                f"the {counts[-1]} most probable ones in each row, or {VALUES_FLAG} label for one"
            )
        joined = separator if separator == " " else _spacing(self._values, separator)
        warnings = self._warnings(sorted({label for labels in lists for label in labels}))
        count = min(counts[-1], len(self._class_names))
        return Values("labels", {self._column: None}, count, joined, warnings)

    def _label_lists(self) -> tuple[str, list[list[str]]] | None:
        """Return the separator and the labels of each value, if some value lists several class names."""
        for separator in LABEL_SEPARATORS:
            lists = [self._split(value, separator) for value in self._values]
            if any(len(labels) > 1 and all(map(self._is_class, labels)) for labels in lists):
                return separator, lists
        return None

    def _split(self, value: str, separator: str) -> list[str]:
        if self._is_class(value):
            return [value]
        return [label for label in map(str.strip, value.split(separator)) if label]

    def _is_class(self, text: str) -> bool:
        return normal_form(text) in self._classes

    def _warnings(self, labels: Sequence[str]) -> list[str]:
        """Return warnings about labels of the sample that are not written like a class of the model."""
        names = set(self._class_names)
        words = [label for label in labels if not NUMBER.fullmatch(label) and label not in names]
        other = [
            word for word in words if self._is_class(word) and " " not in self._classes[normal_form(word)]
        ]
        unknown = [word for word in words if not self._is_class(word)]
        warnings = [f"{self._source}: {shown_list(unknown)}: not a model class"] if unknown else []
        return warnings + [
            f"{self._source}: class '{self._classes[normal_form(word)]}' is written '{word}' there, "
            "which a scorer may distinguish"
            for word in other[:3]
        ]


def _index_note(class_names: Sequence[str]) -> str:
    """Return the first classes with their indices, and the number of the others."""
    first = ", ".join(f"{index} = {name}" for index, name in enumerate(class_names[:MAX_NOTED]))
    others = len(class_names) - MAX_NOTED
    return f"{first} and {others} more, in sorted order" if others > 0 else first


def _spacing(values: Sequence[str], separator: str) -> str:
    """Return a separator with the blank that follows it in the sample."""
    return f"{separator} " if any(f"{separator} " in value for value in values) else separator

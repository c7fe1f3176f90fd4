"""A submission has the ids, row order and columns of its sample submission."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.classifier.submission import plan as module
from pipeline.classifier.submission.filled_values import PredictedClips
from pipeline.classifier.submission.plan import SubmissionPlan, plan_submission
from pipeline.classifier.submission.sample import SampleSubmission
from pipeline.io.errors import UserError

CLASSES = ("dog", "rain", "label")
IDS = ["a/1.wav", "a/2.flac", "b/2.wav", "c.d.wav"]
CLIPS = pd.DataFrame({"clip_id": IDS, "path": [f"/audio/{clip_id}" for clip_id in IDS]})
PREDICTED = PredictedClips(
    ["dog", "dog", "rain", "label"],
    np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.0, 0.1, 0.9]]),
)


def sample(*ids: str, columns: tuple[str, ...] = ("id", "class"), value: str = "?") -> SampleSubmission:
    values = {name: list(ids) if name == columns[0] else [value] * len(ids) for name in columns}
    return SampleSubmission(pd.DataFrame(values, dtype=str), "--sample-submission s.csv")


def fill(sample: SampleSubmission | None) -> pd.DataFrame:
    return fill_plan(plan_submission(sample, CLIPS, CLASSES))


def two_parts() -> list[PredictedClips]:
    return [PredictedClips(*(values[part] for values in PREDICTED)) for part in (slice(3), slice(3, None))]


def fill_plan(plan: SubmissionPlan) -> pd.DataFrame:
    """Return the submission of predictions that arrive in two parts."""
    return pd.concat(plan.fill(two_parts(), CLASSES), ignore_index=True)


def test_submission_without_sample_lists_all_clips():
    assert fill(None).to_dict("list") == {"id": IDS, "label": ["dog", "dog", "rain", "label"]}


def test_submission_without_sample_has_requested_values():
    probabilities = fill_plan(plan_submission(None, CLIPS, CLASSES, "probability"))
    assert list(probabilities.columns) == ["id", "dog", "rain", "label"]
    single = fill_plan(plan_submission(None, CLIPS, CLASSES, positive_class="rain"))
    assert single["probability"].tolist() == [0.1, 0.3, 0.7, 0.1]
    indices = fill_plan(plan_submission(None, CLIPS, CLASSES, "index"))
    assert indices["label"].tolist() == [0, 0, 1, 2]
    with pytest.raises(UserError, match=r"--positive-class rain: .* but --submission-values label requests"):
        plan_submission(None, CLIPS, CLASSES, "label", positive_class="rain")
    with pytest.raises(UserError, match="--submission-values labels: needs a --sample-submission"):
        plan_submission(None, CLIPS, CLASSES, "labels")


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        # Paths, in another order.
        (["c.d.wav", "b/2.wav", "a/1.wav", "a/2.flac"], ["label", "rain", "dog", "dog"]),
        # File names, of some clips only.
        (["2.flac", "1.wav", "2.wav"], ["dog", "dog", "rain"]),
        # File names without suffix.
        (["1", "c.d"], ["dog", "label"]),
        # Paths without suffix.
        (["a/2", "b/2"], ["dog", "rain"]),
        # The same clip several times.
        (["1", "a/1.wav", "1.wav"], ["dog", "dog", "dog"]),
    ],
)
def test_submission_follows_ids_and_columns_of_sample(ids: list[str], labels: list[str]):
    result = fill(sample(*ids, columns=("File Name", "Category")))
    assert list(result.columns) == ["File Name", "Category"]
    assert result["File Name"].tolist() == ids
    assert result["Category"].tolist() == labels


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2", r"id '2': ambiguous \(2 matches, e.g. a/2.flac and b/2.wav\); ids are paths below --audio"),
        ("3.wav", r"id '3.wav': no match; ids are paths below --audio, or file names"),
        ("d", r"id 'd': no match"),
        ("", r"id '': no match"),
    ],
)
def test_ambiguous_or_missing_id_raises(name: str, message: str):
    with pytest.raises(UserError, match=message):
        fill(sample("a/1.wav", name))


@pytest.mark.parametrize("ids", [("C.D", "c.d"), ("c.d.wav", "C.d.wav"), ("a/01", "a/1"), ("a/01", "a/001")])
def test_different_ids_of_one_clip_raise(ids: tuple[str, str]):
    with pytest.raises(UserError, match=f"ids '{ids[0]}' and '{ids[1]}' both match only"):
        fill(sample(*ids))


def test_number_of_wrong_ids_is_in_message():
    with pytest.raises(UserError, match=r"id 'x': no match \(and 2 other ids of 4\)"):
        fill(sample("1", "x", "y", "z"))


def test_sample_without_rows_raises():
    with pytest.raises(UserError, match=r"s.csv: no rows below the header"):
        fill(sample())


def test_files_without_sample_row_are_counted():
    (warning,) = plan_submission(sample("1", "1"), CLIPS, CLASSES).warnings
    assert warning.startswith("3 of 4 audio files have no row in --sample-submission s.csv")


def test_columns_named_like_classes_contain_probabilities():
    result = fill(sample("a/1.wav", "2.wav", columns=("id", "rain", "dog", "label"), value="0"))
    assert list(result.columns) == ["id", "rain", "dog", "label"]
    assert result["id"].tolist() == ["a/1.wav", "2.wav"]
    values = result[["rain", "dog", "label"]].to_numpy()
    np.testing.assert_allclose(values, [[0.1, 0.8, 0.1], [0.7, 0.1, 0.2]], rtol=1e-6)


def test_column_order_and_index_column_are_kept():
    table = pd.DataFrame({"": ["0", "1"], "label": ["?", "?"], "id": ["c.d", "1"]}, dtype=str)
    result = fill(SampleSubmission(table, "s.csv"))
    assert result.to_dict("list") == {"": ["0", "1"], "label": ["label", "dog"], "id": ["c.d", "1"]}


def test_file_has_separator_of_sample():
    table = pd.DataFrame({"id": ["1"], "label": ["?"]}, dtype=str)
    plan = plan_submission(SampleSubmission(table, "s.csv", ";"), CLIPS, CLASSES)
    assert "".join(plan.csv_chunks([PREDICTED], CLASSES)) == "id;label\n1;dog\n"


def test_file_has_one_header_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK_VALUES", 2)
    plan = plan_submission(None, CLIPS, CLASSES)
    chunks = list(plan.csv_chunks(two_parts(), CLASSES))
    assert chunks == ["id,label\na/1.wav,dog\na/2.flac,dog\n", "b/2.wav,rain\n", "c.d.wav,label\n"]


def test_submission_of_many_classes_equals_few_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a sample in any order, some clips several times; the text is that of pandas for all at once."""
    rng = np.random.default_rng(0)
    names = tuple(f"class {i:03d}" for i in range(150))
    probabilities = rng.dirichlet(np.full(150, 0.1), 4).astype(np.float32)
    parts = [PredictedClips(["", ""], probabilities[part]) for part in (slice(2), slice(2, None))]
    rows = [3, 0, 0, 2]
    table = pd.DataFrame({"": list("0123"), "id": [IDS[i] for i in rows]}, dtype=str)
    columns = ("", *reversed(names), "id", "unknown")
    plan = plan_submission(SampleSubmission(table, "s.csv", columns=columns), CLIPS, names, "probability")
    monkeypatch.setattr(module, "_CHUNK_VALUES", 400)
    chunks = list(plan.csv_chunks(parts, names))
    expected = pd.DataFrame(probabilities[rows], columns=list(names)).assign(unknown=0.0, **table)
    assert len(chunks) == 2
    assert "".join(chunks) == expected[list(columns)].to_csv(index=False, lineterminator="\n")

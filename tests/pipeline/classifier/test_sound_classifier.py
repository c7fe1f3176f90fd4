"""A classifier in this process: the probabilities of `melray predict` for files, samples and windows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from models.repetition import repeat_short_clips
from pipeline.audio.decode import AudioDecodeError
from pipeline.audio.waveform import resample
from pipeline.classifier.predict import PredictConfig, write_predictions
from pipeline.classifier.sound_classifier import SoundClassifier
from pipeline.distributed.batch_job import run_in_process
from tests.helpers.saved_classifier import save_classifier
from tests.helpers.sounds import RATE, tone


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("classifier") / "run")


@pytest.fixture(scope="module")
def classifier(run: Path) -> SoundClassifier:
    return SoundClassifier(run, device="cpu")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a recording of 3.7 s, 3 s of tones, and a clip shorter than the model's."""
    folder = tmp_path_factory.mktemp("audio")
    long = np.concatenate([tone(400), tone(900, 2.0), np.zeros(round(0.7 * RATE), np.float32)])
    soundfile.write(folder / "long.wav", long, RATE)
    soundfile.write(folder / "short.wav", tone(600, 0.3), RATE)
    return folder


def predict(run: Path, audio: Path, out: Path, **settings: object) -> pd.DataFrame:
    write_predictions(PredictConfig(run=run, audio=audio, out=out, device="cpu", **settings), run_in_process)
    name = "windows.parquet" if "window" in settings else "predictions.parquet"
    return pd.read_parquet(out / name)


@pytest.mark.parametrize("windows", [1, 5])
def test_files_have_probabilities_of_predict(
    run: Path, classifier: SoundClassifier, audio: Path, tmp_path: Path, windows: int
) -> None:
    table = predict(run, audio, tmp_path, windows=windows)
    expected = table[[f"p:{name}" for name in classifier.class_names]].to_numpy()
    for source in (str, Path.read_bytes):
        actual = [classifier.classify(source(audio / name), windows) for name in ("long.wav", "short.wav")]
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_many_files_have_probabilities_of_single_ones(classifier: SoundClassifier, audio: Path) -> None:
    (audio / "broken.wav").write_text("no audio", encoding="utf-8")
    table = classifier.classify_many(
        [audio / "long.wav", audio / "broken.wav", audio / "short.wav"], windows=3
    )
    (audio / "broken.wav").unlink()
    columns = [f"p:{name}" for name in classifier.class_names]
    expected = [classifier.classify(audio / name, windows=3) for name in ("long.wav", "short.wav")]
    np.testing.assert_allclose(table[columns].to_numpy()[[0, 2]], expected, atol=1e-6)
    assert table["label"].to_list() == [classifier.class_names[row.argmax()] for row in expected[:1]] + [
        "",
        classifier.class_names[expected[1].argmax()],
    ]
    assert table["error"].str.startswith("unreadable").to_list() == [False, True, False]
    assert table.loc[1, ["probability", *columns]].isna().all()


def test_list_without_files_gives_empty_table(classifier: SoundClassifier) -> None:
    table = classifier.classify_many([])
    assert list(table.columns[:4]) == ["file", "label", "probability", "error"]
    for column in ("file", "label", "error"):
        assert table[column].str.upper().to_list() == []


def test_prediction_has_label_and_sound(classifier: SoundClassifier, audio: Path) -> None:
    prediction = classifier.predict(audio / "long.wav")
    expected = classifier.classify(audio / "long.wav")
    np.testing.assert_array_equal(prediction.probabilities, expected)
    assert prediction.labels == (prediction.label,) == (classifier.class_names[expected.argmax()],)
    assert prediction.probability == pytest.approx(expected.max())
    assert prediction.mel.shape == classifier.features.shape
    assert f"{prediction.label} {expected.max():.1%}" in repr(prediction)
    html = prediction._repr_html_()
    assert html.count("<img") == html.count("<audio") == 1 and "long.wav" in html and len(html) < 40_000


def test_prediction_warns_that_only_the_center_is_classified(
    classifier: SoundClassifier, audio: Path
) -> None:
    (warning,) = classifier.predict(audio / "long.wav").warnings
    assert warning.startswith("only the central 1 s of 3.7 s are classified: use classify_windows()")
    assert classifier.predict(audio / "long.wav", windows=4).warnings == ()
    assert classifier.predict(audio / "short.wav").warnings == ()
    assert classifier.predict(tone(400, 2.0), RATE).warnings == ()


def test_prediction_of_samples_equals_that_of_file(classifier: SoundClassifier, audio: Path) -> None:
    samples, rate = soundfile.read(audio / "short.wav", dtype="float32")
    np.testing.assert_allclose(
        classifier.predict(samples, rate).probabilities,
        classifier.predict(audio / "short.wav").probabilities,
        atol=2e-3,
    )


def test_windows_are_tables_by_start(classifier: SoundClassifier, audio: Path) -> None:
    windows = classifier.classify_windows(audio / "long.wav", hop=0.5, threshold=0.0)
    assert windows.table.index.to_list() == windows.starts.tolist()
    assert list(windows.table.columns) == list(classifier.class_names)
    assert windows.event_table["end"].to_list() == [3.7] * len(classifier.class_names)
    assert "windows of 1 s every 0.5 s, 2 events" in repr(windows)


def test_samples_of_another_rate_are_resampled(classifier: SoundClassifier, audio: Path) -> None:
    samples, rate = soundfile.read(audio / "long.wav", dtype="float32")
    expected = classifier.classify(audio / "long.wav")
    np.testing.assert_allclose(classifier.classify_samples(samples, rate), expected, atol=2e-3)
    doubled = resample(samples, rate, 2 * rate)
    np.testing.assert_allclose(classifier.classify_samples(doubled, 2 * rate), expected, atol=0.01)


def test_windows_have_probabilities_of_predict(
    run: Path, classifier: SoundClassifier, audio: Path, tmp_path: Path
) -> None:
    table = predict(run, audio / "long.wav", tmp_path, window=classifier.seconds, hop=0.5)
    windows = classifier.classify_windows(audio / "long.wav", hop=0.5)
    np.testing.assert_allclose(
        windows.probabilities, table[[f"p:{name}" for name in classifier.class_names]], atol=1e-6
    )
    np.testing.assert_array_equal(windows.starts, table["start"])
    assert windows.recording.seconds == pytest.approx(3.7)


def test_events_end_with_recording(classifier: SoundClassifier, audio: Path) -> None:
    events = classifier.classify_windows((audio / "long.wav").read_bytes(), threshold=0.0).events()
    assert [(event.start, event.end) for event in events] == [(0.0, 3.7)] * len(classifier.class_names)
    assert {event.label for event in events} == set(classifier.class_names)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(0), r"samples of shape \(0,\): expected mono"),
        (np.zeros((2, RATE)), r"samples of shape \(2, 8000\): expected mono"),
        (np.full(RATE, np.nan), "samples with nan at index 0"),
    ],
    ids=["empty", "stereo", "nan"],
)
def test_unusable_samples_are_error(classifier: SoundClassifier, samples: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier.classify_samples(samples, RATE)


def test_unusable_file_is_error_with_its_reason(classifier: SoundClassifier, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no audio")
    for method in (classifier.classify, classifier.classify_windows):
        with pytest.raises(AudioDecodeError, match="unreadable") as error:
            method(tmp_path / "a.wav")
        assert error.value.__notes__ == [str(tmp_path / "a.wav")]


def test_recording_without_a_readable_window_is_error(classifier: SoundClassifier, tmp_path: Path) -> None:
    samples = tone(400, 3.0)
    samples[::100] = np.nan
    soundfile.write(tmp_path / "all.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioDecodeError, match="unreadable from 00:00:00 to 00:00:03") as error:
        classifier.classify_windows(tmp_path / "all.wav")
    assert error.value.__notes__ == [str(tmp_path / "all.wav")]
    samples[: 2 * RATE] = tone(400, 2.0)
    soundfile.write(tmp_path / "end.wav", samples, RATE, subtype="FLOAT")
    probabilities = classifier.classify_windows(tmp_path / "end.wav", hop=1.0).probabilities
    assert np.isnan(probabilities).all(axis=1).tolist() == [False, False, True]


def test_network_that_returns_no_numbers_is_error(run: Path, audio: Path) -> None:
    classifier = SoundClassifier(run, device="cpu")
    for parameter in classifier._model.parameters():
        parameter.data.fill_(float("nan"))
    for method in (classifier.classify, classifier.classify_windows, classifier.embed):
        with pytest.raises(ValueError, match="the network returns values that are not finite: eval"):
            method(audio / "long.wav")


@pytest.mark.parametrize("hop", [0.0, 1e-7, float("nan"), float("inf")])
def test_invalid_hop_is_named(classifier: SoundClassifier, audio: Path, hop: float) -> None:
    with pytest.raises(ValueError, match=f"hop {hop!r}: expected a number from 0.001 to 1 s"):
        classifier.classify_windows(audio / "long.wav", hop=hop)


def embeddings_of(table: pd.DataFrame) -> np.ndarray:
    return np.stack(table["embedding"])


@pytest.mark.parametrize("windows", [1, 5])
def test_embeddings_are_those_of_predict(
    run: Path, classifier: SoundClassifier, audio: Path, tmp_path: Path, windows: int
) -> None:
    table = predict(run, audio, tmp_path / "out", windows=windows, embeddings=True)
    plain = predict(run, audio, tmp_path / "plain", windows=windows)
    pd.testing.assert_frame_equal(table.drop(columns="embedding"), plain)
    names = table["id"].to_list()
    expected = [classifier.embed(audio / name, windows=windows) for name in names]
    np.testing.assert_allclose(embeddings_of(table), expected, atol=1e-5)
    assert embeddings_of(table).shape == (2, classifier.embedding_dim)
    assert np.ptp(embeddings_of(table), axis=0).max() > 0.01  # sounds are distinguished
    many = classifier.classify_many([audio / name for name in names], windows, embeddings=True)
    np.testing.assert_allclose(embeddings_of(many), expected, atol=1e-5)


def test_embedding_of_samples_is_that_of_file(classifier: SoundClassifier, audio: Path) -> None:
    samples, rate = soundfile.read(audio / "short.wav", dtype="float32")
    expected = classifier.embed(audio / "short.wav")
    np.testing.assert_allclose(classifier.embed(samples, rate), expected, atol=0.01 * expected.max())


def test_windows_have_embeddings_of_predict(
    run: Path, classifier: SoundClassifier, audio: Path, tmp_path: Path
) -> None:
    settings = {"window": classifier.seconds, "hop": 0.5, "embeddings": True}
    table = predict(run, audio / "long.wav", tmp_path, **settings)
    windows = classifier.classify_windows(audio / "long.wav", hop=0.5, embeddings=True)
    np.testing.assert_allclose(windows.embeddings, embeddings_of(table), atol=1e-5)
    assert len(table) == 7 and "embedding" not in pd.read_csv(tmp_path / "windows.csv")
    assert classifier.classify_windows(audio / "long.wav", hop=0.5).embeddings is None


def test_unreadable_files_have_no_embedding(
    run: Path, classifier: SoundClassifier, audio: Path, tmp_path: Path
) -> None:
    shutil.copytree(audio, tmp_path / "audio")
    (tmp_path / "audio" / "a.wav").write_text("no audio")
    table = predict(run, tmp_path / "audio", tmp_path / "out", embeddings=True)
    many = classifier.classify_many(tmp_path / "audio", embeddings=True)
    for embeddings in (table["embedding"], many["embedding"]):
        assert [value is None for value in embeddings] == [True, False, False]


def test_shifts_and_models_have_means_and_all_embeddings(
    run: Path, classifier: SoundClassifier, audio: Path, tmp_path: Path
) -> None:
    mels = np.stack([classifier.predict(audio / name).mel for name in ("long.wav", "short.wav")])
    shifted = SoundClassifier(run, device="cpu", tta_shifts=2).embed_mels(mels)
    half = mels.shape[2] // 2
    whole = repeat_short_clips(torch.from_numpy(mels).float())
    expected = [classifier.embed_mels(part.numpy()) for part in (whole, whole.roll(half, 2))]
    np.testing.assert_allclose(shifted, np.mean(expected, axis=0), atol=1e-4)
    members = [save_classifier(tmp_path / f"member_{number}") for number in (1, 2)]
    (tmp_path / "ensemble.json").write_text(json.dumps({"members": [path.name for path in members]}))
    both = SoundClassifier(tmp_path, device="cpu")
    parts = [SoundClassifier(path, device="cpu").embed_mels(mels) for path in members]
    assert both.embedding_dim == 2 * classifier.embedding_dim
    np.testing.assert_allclose(both.embed_mels(mels), np.concatenate(parts, axis=1) / np.sqrt(2), atol=1e-6)

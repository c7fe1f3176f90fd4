"""Samples of a GAN with more classes than can be looked at: those of evenly spaced classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.data.split import Split
from pipeline.gan import snapshots, train_reference_classifier
from pipeline.gan.report_inputs import epoch_snapshot
from pipeline.gan.snapshots import FIRST_SAMPLES_NAME
from pipeline.gan.state import prepare
from pipeline.report.selection import describe_selection, evenly_spaced
from pipeline.training.tensor_file import save_tensors
from tests.helpers.runs import SINGLE_WORKER
from tests.helpers.sounds import gan_config

pytestmark = pytest.mark.usefixtures("single_thread")


def test_evenly_spaced_items_include_both_ends():
    assert evenly_spaced(3, 5).tolist() == [0, 1, 2] and evenly_spaced(0, 5).tolist() == []
    classes = evenly_spaced(5000, 50)
    assert len(set(classes.tolist())) == 50 and classes[[0, -1]].tolist() == [0, 4999]
    assert describe_selection(50, 5000) == "50 of 5,000 classes, evenly spaced"
    assert describe_selection(3, 3) == ""


def test_samples_of_many_classes_are_of_some(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "evenly_spaced", lambda count, limit=50: evenly_spaced(count, 2))
    state = prepare(gan_config(shards, tmp_path, samples_per_class=2), SINGLE_WORKER)
    device = SINGLE_WORKER.device
    state.snapshots.write(state.ema.model, 1, device)
    for name in ("real", "epoch_0001"):
        folder = tmp_path / "samples" / name
        names = [f"tone {label}_{number}.wav" for label in (0, 2) for number in (1, 2)]
        assert sorted(path.name for path in folder.glob("*.wav")) == names
        assert (folder / "grid.png").is_file()
    assert set(state.snapshots.diversity(state.ema.model, device)) == {0, 2}
    last = epoch_snapshot(tmp_path / "samples" / "epoch_0001", np.array([2]))
    both = epoch_snapshot(tmp_path / "samples" / "epoch_0001", np.array([0, 2]))
    assert last.epoch == 1 and (last.mels[0] == both.mels[1]).all()


def test_samples_of_a_killed_worker_are_completed(shards: Path, tmp_path: Path) -> None:
    state = prepare(gan_config(shards, tmp_path), SINGLE_WORKER)

    def write() -> list[Path]:
        state.snapshots.write(state.ema.model, 1, SINGLE_WORKER.device)
        return sorted(path for path in (tmp_path / "samples").rglob("*") if path.is_file())

    complete = write()
    for name in ("real", "epoch_0001"):
        (tmp_path / "samples" / name / FIRST_SAMPLES_NAME).unlink()  # written last
        (tmp_path / "samples" / name / ".grid.png.0123abcd.tmp").touch()
    assert write() == complete


def test_frequent_classes_of_validation_clips_count_no_more(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generated clips that are scored are of all classes in equal numbers."""
    monkeypatch.setattr(train_reference_classifier, "EPOCHS", 5)
    config = gan_config(shards, tmp_path, select_best=True, val_fraction=0.4)
    train_reference_classifier.get_reference_classifier(config, "selection")
    state = prepare(config, SINGLE_WORKER)
    val = state.split.val
    frequent = np.concatenate([val, *[val[state.labels[val] == 0]] * 20])
    scores = []
    for rows in (val, frequent):
        split = Split(state.split.train, rows, state.split.held_out)
        writer = snapshots.SnapshotWriter(config, state.dataset, split, state.real_diversity)
        scores.append(writer.write(state.ema.model, 1, SINGLE_WORKER.device)["frechet"])
    assert scores[1] == pytest.approx(scores[0], rel=0.1)


def test_samples_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They had samples of all classes, without a list of them."""
    folder = tmp_path / "epoch_0003"
    folder.mkdir()
    mels = snapshots.torch.arange(24.0).reshape(3, 2, 4)
    save_tensors(folder / FIRST_SAMPLES_NAME, {"mels": mels})
    assert (epoch_snapshot(folder, np.array([2, 0])).mels == mels[[2, 0]].numpy()).all()

"""A dataset as numpy and as PyTorch dataset: rows, split, augmentation, worker processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from models.settings import SpecAugmentConfig
from pipeline.data.dataset import open_dataset
from pipeline.data.sound_dataset import SoundDataset, open_sound_dataset
from pipeline.data.split import split_rows
from pipeline.data.split_config import SplitConfig
from pipeline.io.errors import UserError


@pytest.fixture(scope="module")
def dataset(shards: Path) -> SoundDataset:
    return open_sound_dataset(str(shards), fold=2, seed=3)


def test_split_is_that_of_training(dataset: SoundDataset, shards: Path) -> None:
    expected = split_rows(open_dataset(shards), SplitConfig(fold=2, seed=3))
    for part, rows in (
        ("train", expected.train),
        ("validation", expected.val),
        ("held-out", expected.held_out),
    ):
        assert len(rows)
        np.testing.assert_array_equal(dataset.rows(part), rows)
        mels, labels = dataset.arrays(part)
        np.testing.assert_array_equal(mels, dataset.mels[rows])
        assert [dataset.class_names[i] for i in labels] == dataset.table["label"].iloc[rows].to_list()


def test_torch_items_are_rows_in_decibels(dataset: SoundDataset) -> None:
    items = dataset.torch("validation")
    assert len(items) == len(dataset.split.val)
    for (mel, label), row in zip((items[i] for i in range(len(items))), items.rows, strict=True):
        np.testing.assert_array_equal(mel, dataset.mels[row])
        assert mel.dtype == torch.float32 and label.dtype == torch.int64
        assert label == dataset.labels[row]


def test_augmented_items_differ_and_repeat_by_seed(dataset: SoundDataset) -> None:
    items = dataset.torch("train", augment=True)
    torch.manual_seed(1)
    first, second = items[0][0], items[0][0]
    torch.manual_seed(1)
    assert torch.equal(items[0][0], first) and not torch.equal(first, second)
    assert first.shape == items[0][0].shape == dataset.features.shape


def test_items_have_rooms_and_noise(dataset: SoundDataset) -> None:
    still = dict.fromkeys(("time_masks", "freq_masks", "roll", "gain_db", "time_stretch", "freq_shift"), 0)
    plain = dataset.torch("train", augment=SpecAugmentConfig(**still))
    noisy = dataset.torch("train", augment=SpecAugmentConfig(**still, noise=1.0))
    # Noise fills the silence of a clip.
    assert float(noisy[0][0].min()) > float(plain[0][0].min()) + 5


@pytest.mark.parametrize("augment", [False, True, SpecAugmentConfig(reverb=1.0, noise=1.0)])
def test_copy_in_another_process_maps_spectrograms_again(
    dataset: SoundDataset, augment: bool | SpecAugmentConfig
) -> None:
    items = dataset.torch("train", augment=augment)
    content = pickle.dumps(items)
    assert len(content) < dataset.mels.nbytes / 4
    torch.manual_seed(1)
    expected = items[3][0]
    torch.manual_seed(1)
    assert torch.equal(pickle.loads(content)[3][0], expected)


def test_spawned_workers_load_all_rows(dataset: SoundDataset) -> None:
    loader = DataLoader(
        dataset.torch("held-out"), batch_size=4, num_workers=1, multiprocessing_context="spawn"
    )
    mels = torch.cat([batch for batch, _ in loader])
    np.testing.assert_array_equal(mels, dataset.arrays("held-out")[0])


def test_unknown_part_or_fold_is_error(dataset: SoundDataset, shards: Path) -> None:
    with pytest.raises(ValueError, match="part 'test': expected 'train'"):
        dataset.rows("test")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="fold not found"):
        open_sound_dataset(shards, fold=77).rows("train")

"""Spectrogram of a recording in blocks: equal to that of the whole, with few columns at any length."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audio.mel import MelConfig, log_mel
from pipeline.report import tiles
from pipeline.report.tiles import LEVEL_FACTOR, TILE_COLUMNS, SpectrogramColumns, contrast_scale, mean_columns
from tests.helpers.sounds import RATE, tone
from tests.pipeline.report.test_clips import decode_image

CONFIG = MelConfig(sample_rate=RATE, n_fft=256, hop_length=256, n_mels=16, top_db=None)
HOP = CONFIG.hop_length


def fill(samples: np.ndarray, config: MelConfig = CONFIG) -> SpectrogramColumns:
    columns = SpectrogramColumns(config, samples.size)
    for block in columns.blocks():
        columns.add(block, samples[block.start : block.start + block.size])
    return columns


@pytest.mark.parametrize("hop", [64, 256])
def test_blocks_equal_whole_spectrogram(hop: int) -> None:
    config = CONFIG.model_copy(update={"hop_length": hop, "n_fft": 512})
    samples = np.random.default_rng(0).normal(0, 0.1, 2500 * hop + 17).astype(np.float32)
    columns = fill(samples, config)
    assert len(columns.blocks()) == 3
    whole = log_mel(config)(samples)[:, : columns.columns.shape[1]]
    np.testing.assert_allclose(columns.columns, whole, atol=1e-3)
    assert columns.column_seconds == hop / RATE


def test_long_recording_has_limited_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MAX_COLUMNS", 100)
    samples = tone(1000, seconds=60)
    columns = fill(samples)
    assert 90 < columns.columns.shape[1] <= 100
    assert columns.column_seconds * columns.columns.shape[1] == pytest.approx(60, abs=columns.column_seconds)
    # The mean of a steady tone is the tone.
    assert columns.columns.max(axis=0) == pytest.approx(log_mel(CONFIG)(samples).max(), abs=1.0)


def test_short_event_stays_visible_in_mean() -> None:
    columns = np.full((1, 64), -80.0, np.float32)
    columns[0, 10] = -20.0
    assert mean_columns(columns, 64)[0, 0] == pytest.approx(-20 - 10 * np.log10(64), abs=0.1)


def test_part_that_was_not_read_has_no_level() -> None:
    samples = tone(1000, seconds=100)
    columns = SpectrogramColumns(CONFIG, samples.size)
    first, second, *others = columns.blocks()
    for block in (first, *others):
        columns.add(block, samples[block.start : block.start + block.size])
    missing = np.flatnonzero(np.isnan(columns.columns).all(axis=0))
    start = (second.start + second.lead) // HOP
    assert missing.tolist() == list(range(start, start + columns.block_size // HOP))
    assert start == TILE_COLUMNS
    brightest = [np.asarray(decode_image(tile)).max() for tile in columns.levels((-80.0, 0.0))[0].tiles]
    assert brightest[0] > brightest[1] == 0 < brightest[2]


def test_levels_end_with_a_single_tile() -> None:
    levels = fill(tone(500, seconds=200)).levels((-80.0, 0.0))
    widths = [[decode_image(tile).width for tile in level.tiles] for level in levels]
    assert [sum(level) for level in widths] == [level.columns for level in levels]
    assert len(levels[-1].tiles) == 1 < len(levels[0].tiles)
    assert levels[1].columns == -(-levels[0].columns // LEVEL_FACTOR)
    assert max(map(max, widths)) <= TILE_COLUMNS


def test_empty_recording_has_one_column() -> None:
    columns = fill(np.zeros(0, np.float32))
    assert columns.columns.shape[1] == 1
    assert len(columns.levels(contrast_scale(columns.columns))) == 1


def test_background_noise_is_the_darkest_color() -> None:
    columns = np.full((10, 100), -50.0)
    columns[:, :5] = -10.0
    assert contrast_scale(columns) == (-50.0, -10.0)
    assert contrast_scale(np.full((4, 4), -30.0)) == (-50.0, -30.0)

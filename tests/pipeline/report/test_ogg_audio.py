"""Audio of a recording: encoded in pieces to a file of the same length, or left out beyond the limit."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.ogg_audio import OggEncoder
from tests.helpers.sounds import RATE, tone
from tests.pipeline.report.test_clips import decode_audio


@pytest.mark.parametrize("rate", [1000, RATE, 22_050, 48_000, 192_000])
def test_pieces_become_one_audio_file(rate: int) -> None:
    samples = tone(200, seconds=3, rate=rate)
    encoder = OggEncoder(rate, 10**6)
    for piece in np.array_split(samples, 7):
        encoder.write(piece)
    uri = encoder.data_uri()
    assert uri is not None
    decoded, decoded_rate, mime_type = decode_audio(uri)
    assert (decoded_rate, mime_type, decoded.size) == (rate, "audio/ogg", samples.size)
    assert np.corrcoef(decoded, samples)[0, 1] > 0.98


def test_audio_beyond_the_limit_is_dropped() -> None:
    encoder = OggEncoder(RATE, 2000)
    for seed in range(20):
        encoder.write(tone(200, seed=seed))
    assert not encoder.fits
    assert encoder.data_uri() is None


def test_values_out_of_range_are_clipped() -> None:
    encoder = OggEncoder(RATE, 10**6)
    encoder.write(np.array([np.nan, np.inf, -1e30, 5.0] * 1000, np.float32))
    uri = encoder.data_uri()
    assert uri is not None and decode_audio(uri)[0].size == 4000


def test_no_limit_means_no_audio() -> None:
    encoder = OggEncoder(RATE, 0)
    encoder.write(tone(200))
    assert encoder.data_uri() is None

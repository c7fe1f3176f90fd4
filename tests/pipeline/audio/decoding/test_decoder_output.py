"""Tests that messages of the MP3 decoder do not reach the terminal, and others do."""

from __future__ import annotations

import os

import pytest

from pipeline.audio.decode import AudioDecodeError, decode
from pipeline.audio.decoding.decoder_output import hide_mpg123_messages
from tests.helpers.audio_formats import RATE, encode, noise


def test_decode_corrupt_mp3_writes_nothing(capfd: pytest.CaptureFixture[str]):
    content = encode(noise(5.0), "MP3", "MPEG_LAYER_III")
    third = len(content) // 3
    broken = [content[:third] + bytes(2000) + content[third + 1234 :], content[:500], content[third:]]
    for data in [*broken, content[:300] + b"\xff" * 5000 + content[300:], content[:2000] * 3]:
        try:
            decode(data, RATE)
        except AudioDecodeError as error:
            assert str(error)
    assert capfd.readouterr() == ("", "")


def test_hide_mpg123_messages_forwards_other_lines(capfd: pytest.CaptureFixture[str]):
    with hide_mpg123_messages():
        os.write(2, b"[src/libmpg123/parse.c:skip_junk():1276] error: Giving up searching\n")
        os.write(2, b"another thread\nWarning: Xing stream size off by more than 1%\n")
        assert capfd.readouterr().err == ""
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "another thread\nafter\n"


def test_hide_mpg123_messages_restores_after_error(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError), hide_mpg123_messages():
        raise ValueError
    os.write(2, b"visible\n")
    assert capfd.readouterr().err == "visible\n"

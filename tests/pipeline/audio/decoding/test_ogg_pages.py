"""Pages of Ogg files: checksums, search from any position, and damaged parts by their frames."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.ogg_pages import OggDamage, Page, find_page, read_page
from pipeline.audio.decoding.stream import Stream
from tests.helpers.audio_formats import RATE, noise
from tests.pipeline.audio.test_recordings import encode_long

SECONDS = 600


@pytest.fixture(scope="module", params=["VORBIS", "OPUS"])
def content(request: pytest.FixtureRequest) -> bytes:
    return encode_long(noise(SECONDS), "OGG", request.param, RATE)


def pages_of(content: bytes) -> list[Page]:
    source, pages, position = ByteSource(content), [], 0
    while (page := read_page(source, position, len(content))) is not None:
        pages.append(page)
        position = page.end
    return pages


def damage_of(content: bytes) -> OggDamage:
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        rate = 48_000 if sound.subtype == "OPUS" else RATE
        return OggDamage(ByteSource(content), Stream(0, len(content)), sound.frames, RATE / rate)


def spoiled(content: bytes, offset: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]


def test_pages_of_an_intact_file_cover_it(content: bytes):
    pages = pages_of(content)
    assert pages[-1].end == len(content)
    assert [page.number for page in pages] == list(range(len(pages)))


@pytest.mark.parametrize("offset", [5, 20, 22, 26, 60, -1])
def test_page_with_one_wrong_bit_is_not_intact(content: bytes, offset: int):
    page = pages_of(content)[10]
    position = page.start + offset if offset >= 0 else page.end - 1
    assert read_page(ByteSource(spoiled(content, position)), page.start, len(content)) is None
    assert read_page(ByteSource(content), page.start, page.end - 1) is None


def test_next_intact_page_is_found(content: bytes):
    pages = pages_of(content)
    broken = ByteSource(spoiled(content, pages[10].end - 1))
    assert find_page(broken, pages[9].start + 1, len(content)) == pages[11]
    assert find_page(broken, pages[-1].start + 1, len(content)) is None


def test_intact_file_has_no_damaged_part(content: bytes):
    assert damage_of(content).parts(0, SECONDS * RATE) == []


@pytest.mark.parametrize("is_missing", [False, True])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.97])
def test_damaged_part_is_found_from_anywhere(content: bytes, fraction: float, is_missing: bool):
    pages = pages_of(content)
    index = round(fraction * len(pages))
    page, units = pages[index], pages[-1].position
    broken = spoiled(content, page.end - 1)
    if is_missing:
        broken = content[: page.start] + content[page.end :]
    # From the end of the page before to that of the page after it.
    before, after = (pages[i].position / units * SECONDS * RATE for i in (index - 1, index + 1))
    for first in np.linspace(0, before, 7):
        ((start, end),) = damage_of(broken).parts(int(first), SECONDS * RATE)
        assert abs(start - before) < 0.02 * RATE and abs(end - after) < 0.02 * RATE
    one = damage_of(broken)
    assert one.parts(int(after) + RATE // 10, SECONDS * RATE) == []
    assert one.parts(0, int(before) - RATE // 10) == []
    assert len(one.parts(int(before) - RATE, int(before) + RATE)) == 1


def test_multiplexed_streams_are_not_checked(content: bytes):
    pages = pages_of(content)
    broken = spoiled(content, pages[10].end - 1)
    two = content[: pages[0].end] + broken  # both begin, one after the other
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        frames = sound.frames
    damage = OggDamage(ByteSource(two), Stream(0, len(two)), frames, 1.0)
    assert damage.parts(0, frames) == []

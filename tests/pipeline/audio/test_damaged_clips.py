"""Whole clips of Ogg and MP3 of which a part is damaged or missing: what precedes it, or a rejection."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.augment import AugmentConfig
from pipeline.audio.decode import AudioDecodeError, decode
from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.ogg_pages import Page, read_page
from pipeline.audio.features import FeatureConfig
from pipeline.audio.mel import MelConfig
from pipeline.data.extraction import ClipExtractor
from tests.helpers.audio_formats import RATE, drop_first_mp3_frame, encode, encode_mp3, noise

SECONDS = 20.0
DAMAGED = re.compile(
    r"truncated: (\d+\.\d) % of the declared samples, up to (\d+\.\d\d) s, where it is damaged"
    r"(?:, less than --min-complete (\S+))?"
)
KINDS = ("overwritten", "zeros", "missing", "inserted")


def decode_warned(content: bytes, min_complete: float = 0.75) -> tuple[np.ndarray, list[str]]:
    warnings: list[str] = []
    return decode(content, RATE, min_complete, warnings.append), warnings


def damage(content: bytes, start: int, end: int, kind: str) -> bytes:
    """Damage a part of a file."""
    part = {
        "overwritten": np.random.default_rng(0).bytes(end - start),
        "zeros": bytes(end - start),
        "missing": b"",
        "inserted": bytes(5000) + content[start:end],
    }[kind]
    return content[:start] + part + content[end:]


def ogg_pages(content: bytes) -> list[Page]:
    pages: list[Page] = []
    while page := read_page(ByteSource(content), pages[-1].end if pages else 0, len(content)):
        pages.append(page)
    return pages


def mp3_frames(content: bytes) -> list[int]:
    """Return the offset of each frame of a constant bit rate."""
    return [match.start() for match in re.finditer(re.escape(content[:2]), content)]


def check(
    whole: np.ndarray, broken: bytes, first: float, last: float, atol: float = 0.0, rate: int = RATE
) -> None:
    """Check that a damaged file is used up to a position between two times in seconds."""
    warnings: list[str] = []
    samples = decode(broken, rate, 0.0, warnings.append)
    (warning,) = warnings
    percent, position, _ = DAMAGED.fullmatch(warning).groups()
    assert first <= samples.size / rate <= last
    assert float(position) == pytest.approx(samples.size / rate, abs=0.006)
    assert float(percent) == pytest.approx(100 * samples.size / whole.size, abs=0.2)
    np.testing.assert_allclose(samples, whole[: samples.size], rtol=0, atol=atol)
    needed = 0.75 if samples.size < 0.74 * whole.size else 1
    with pytest.raises(AudioDecodeError) as error:
        decode(broken, rate, needed)
    assert DAMAGED.fullmatch(str(error.value)).groups() == (percent, position, f"{needed:g}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.3, 0.9])
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_is_used_up_to_its_damaged_page(subtype: str, fraction: float, kind: str):
    content = encode(noise(SECONDS), "OGG", subtype)
    pages = ogg_pages(content)
    index = round(fraction * len(pages))
    page, before = pages[index], pages[index - 1]
    whole = decode(content, RATE)
    expected = before.position / pages[-1].position * SECONDS
    check(whole, damage(content, page.start, page.end, kind), expected - 0.02, expected + 0.02)


def test_one_wrong_bit_in_an_ogg_page_is_damage():
    content = encode(noise(SECONDS), "OGG", "VORBIS")
    page = ogg_pages(content)[-3]
    broken = bytearray(content)
    broken[(page.start + page.end) // 2] ^= 1
    check(decode(content, RATE), bytes(broken), 0.7 * SECONDS, 0.99 * SECONDS)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_with_a_damaged_last_page_lacks_its_end(subtype: str):
    content = encode(noise(SECONDS), "OGG", subtype)
    broken, whole = content[:-50] + bytes(50), decode(content, RATE)
    samples, warnings = decode_warned(broken)
    assert 0.7 * whole.size < samples.size < whole.size
    np.testing.assert_array_equal(samples, whole[: samples.size])
    position = f"up to {samples.size / RATE:.2f} s, where it is damaged"
    assert warnings == [f"truncated: the end is missing, by an unknown amount, {position}"]
    with pytest.raises(AudioDecodeError, match=r"^truncated: .*, and --min-complete is 1$"):
        decode(broken, RATE, 1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_whose_first_samples_are_damaged_is_rejected(subtype: str, kind: str):
    content = encode(noise(SECONDS), "OGG", subtype)
    page = next(page for page in ogg_pages(content) if page.position > 0)
    if kind == "missing":
        # As in a stream that was recorded from its middle on: all that is there is used.
        samples, warnings = decode_warned(damage(content, page.start, page.end, kind), 1.0)
        assert samples.size > 0.5 * SECONDS * RATE and warnings == []
        return
    with pytest.raises(AudioDecodeError, match=r"^(truncated: 0\.0 % |unreadable: |no samples)"):
        decode(damage(content, page.start, page.end, kind), RATE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.3, 0.9])
@pytest.mark.parametrize("declares_length", [True, False])
def test_mp3_is_used_up_to_its_damaged_frames(declares_length: bool, fraction: float, kind: str):
    content = encode_mp3(noise(SECONDS))
    content = content if declares_length else drop_first_mp3_frame(content)
    frames = mp3_frames(content)
    index = round(fraction * len(frames))
    broken = damage(content, frames[index] + 30, frames[index + 3] + 50, kind)
    if kind in ("missing", "inserted") and not declares_length:
        # The length is estimated from the bytes that are there, so that the percentage is not exact.
        samples, (warning,) = decode_warned(broken, 0.0)
        np.testing.assert_allclose(samples, decode(content, RATE)[: samples.size], rtol=0, atol=1e-6)
        assert DAMAGED.fullmatch(warning)
        return
    position = fraction * SECONDS
    check(decode(content, RATE), broken, position - 0.4, position + 0.1, atol=1e-6)


def test_mp3_that_lacks_exactly_whole_frames_counts_as_truncated():
    content = encode_mp3(noise(SECONDS))
    frames = mp3_frames(content)
    samples, (warning,) = decode_warned(content[: frames[100]] + content[frames[110] :])
    assert re.fullmatch(r"truncated: 9[5-7]\.\d % of the declared samples", warning)
    assert samples.size < decode(content, RATE).size


def test_mp3_of_variable_bit_rate_is_used_up_to_its_damaged_frames():
    content = encode_mp3(noise(SECONDS, 16_000), 16_000, is_constant=False)
    start = int(0.9 * len(content))
    broken = damage(content, start, start + 3000, "overwritten")
    check(decode(content, 16_000), broken, 0.8 * SECONDS, 0.95 * SECONDS, atol=1e-6, rate=16_000)


def test_mp3_with_a_large_unreadable_part_is_used_up_to_it():
    content = drop_first_mp3_frame(encode_mp3(noise(60.0)))
    start = int(0.8 * len(content))
    broken = damage(content, start, start + 20_000, "zeros")
    check(decode(content, RATE), broken, 0.75 * 60, 0.8 * 60 + 0.1, atol=1e-6)


def test_damage_of_a_concatenated_file_has_its_time_in_the_file():
    first, second = (encode(noise(SECONDS, seed=seed), "OGG", "VORBIS") for seed in (0, 1))
    page = ogg_pages(second)[-3]
    samples, (warning,) = decode_warned(first + damage(second, page.start, page.end, "zeros"))
    whole = np.concatenate([decode(first, RATE), decode(second, RATE)])
    np.testing.assert_array_equal(samples, whole[: samples.size])
    assert float(DAMAGED.fullmatch(warning)[2]) == pytest.approx(samples.size / RATE, abs=0.006)
    assert samples.size > (SECONDS + 0.5 * SECONDS) * RATE


def test_damaged_real_recordings_are_used_up_to_the_damage(esc10: list[Path]):
    for path in esc10[::40]:
        content = path.read_bytes()
        whole, pages = decode(content, RATE), ogg_pages(content)
        assert pages[-1].end == len(content)
        page = pages[-2]
        broken = damage(content, page.start, page.end, "overwritten")
        samples, warnings = decode_warned(broken, 0.0)
        assert 0 < samples.size < whole.size
        # The resampler has no samples after the last one.
        np.testing.assert_allclose(samples[:-200], whole[: samples.size - 200], rtol=0, atol=1e-6)
        assert any(map(DAMAGED.fullmatch, warnings))


def test_extraction_lists_damaged_clips(tmp_path: Path):
    content = encode(noise(SECONDS), "OGG", "VORBIS")
    pages = ogg_pages(content)
    clips = []
    for name, page in (("early", pages[len(pages) // 3]), ("late", pages[-2])):
        path = tmp_path / f"{name}.ogg"
        path.write_bytes(damage(content, page.start, page.end, "zeros"))
        clips.append({"clip_id": path.name, "path": str(path)})
    extractor = ClipExtractor(
        FeatureConfig(mel=MelConfig(sample_rate=RATE, fmax=RATE / 2)), AugmentConfig(copies=0)
    )
    result = extractor.extract_clips(clips, [clip["path"] for clip in clips])
    ((early, _, reason),), ((late, _, warning),) = result.rejected, result.warnings
    assert (early, late) == ("early.ogg", "late.ogg")
    assert DAMAGED.fullmatch(reason)[3] == "0.75" and DAMAGED.fullmatch(warning)

"""The streams of a recording one after the other, as samples at one rate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.decoding.blocks import Block, StreamBlocks
from pipeline.audio.decoding.frame_reader import count_frames


@dataclass(frozen=True)
class TimelinePart:
    """Samples of a part of a recording, which may be shorter at its end."""

    samples: np.ndarray
    """Float32 `[shape=(num_samples,)]`."""
    unreadable: list[tuple[int, int]]
    """First sample of each unreadable part and the first one after it, from the start of the recording on."""


class Timeline:
    """Samples of a recording, read block by block; those blocks are kept that the next window may need."""

    def __init__(self, streams: Sequence[StreamBlocks]) -> None:
        self._streams = streams
        lengths = [stream.to_samples(count_frames(stream.reader)) for stream in streams[:-1]]
        self._offsets = list(itertools.accumulate(lengths, initial=0))
        self._blocks: dict[tuple[int, int], Block] = {}

    @property
    def end(self) -> int | None:
        """Number of samples up to the end, as far as that is known; None: unknown."""
        last = self._streams[-1].end
        return None if last is None else self._offsets[-1] + last

    @property
    def declared(self) -> int | None:
        """Number of samples that there should be; None: unknown."""
        last = self._streams[-1].expected
        return None if last is None else self._offsets[-1] + last

    @property
    def mix_reasons(self) -> list[str]:
        """Why not all channels are used, of each stream where that is so."""
        return [stream.mix.reason for stream in self._streams if stream.mix is not None]

    def read(self, first: int, last: int) -> TimelinePart:
        """Return the samples from `first` up to, not including, `last`."""
        needed = list(self._needed(first, last))
        self._blocks = {key: block for key, block in self._blocks.items() if key >= min(needed)[:2]}
        samples, unreadable = [], []
        for stream, index, start, stop in needed:
            block = self._block(stream, index)
            samples.append(block.samples[start:stop])
            offset = self._offsets[stream]
            unreadable += [(offset + begin, offset + end) for begin, end in block.unreadable]
        joined = samples[0] if len(samples) == 1 else np.concatenate(samples)
        return TimelinePart(joined, [part for part in unreadable if part[0] < last and part[1] > first])

    def _needed(self, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield stream, block, and the first and last sample in it, of each part of a range of samples."""
        for number, stream in enumerate(self._streams):
            offset, size = self._offsets[number], stream.block_samples
            is_last = number == len(self._streams) - 1
            stop = last if is_last else min(last, self._offsets[number + 1])
            start = max(first, offset)
            for index in range((start - offset) // size, -(-(stop - offset) // size)):
                begin = offset + index * size
                yield number, index, max(0, start - begin), min(size, stop - begin)

    def _block(self, stream: int, index: int) -> Block:
        if (stream, index) not in self._blocks:
            self._blocks[stream, index] = self._streams[stream].block(index)
        return self._blocks[stream, index]

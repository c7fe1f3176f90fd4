"""Damage of MP3 files: runs of intact frames, and how many frames are lost between them.

Decoders leave out what is not a frame, without an error, so that what follows is early. A frame whose header
is intact is taken as intact: there is no checksum of its content.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

from pipeline.audio.decoding.byte_source import ByteSource
from pipeline.audio.decoding.mpeg import can_continue, find_distant_frame, find_frame, skip_id3v2
from pipeline.audio.decoding.mpeg_header import Frame, parse_frame, patch_xing, read_xing
from pipeline.audio.decoding.stream import Stream

_LAYER_3, _WINDOW = 3, 1 << 18
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")
# Sizes of frames of one bit rate differ by a byte of padding.
_PADDING = 1
# Declared in addition to the frames of a run, so that the decoder reads all of them.
_MORE_FRAMES = 16

_UNCERTAIN = "damaged, and without a declared length: times after the damaged part may be wrong"


class Run(NamedTuple):
    """Intact frames that follow each other."""

    first: int
    """Number of frames before it, with those that are lost."""
    num_frames: int
    start: int
    """Its offset in the file, and that of what follows it."""
    end: int
    is_certain: bool
    """Whether `first` is known."""


class _Found(NamedTuple):
    num_frames: int
    start: int
    end: int


class MpegFrames:
    """The frames of a stream of layer 3, found as far as they are asked for."""

    def __init__(self, source: ByteSource, stream: Stream) -> None:
        """Use a stream.

        Raises:
            ValueError: it has no frames of layer 3, or does not declare their number.
        """
        self._source, self._end = source, stream.end
        start = find_frame(source, skip_id3v2(source, stream.start))
        first = None if start is None else parse_frame(source.read(start, 4))
        if start is None or first is None or first.layer != _LAYER_3:
            raise ValueError("no MPEG frames of layer 3")
        header = parse_frame(stream.prefix[:4]) if stream.prefix else first
        self._header = stream.prefix or source.read(start, first.size)
        xing = None if header is None else read_xing(self._header, header)
        if header is None or xing is None:
            raise ValueError("the number of MPEG frames is not declared")
        self._header_frame: Frame = header
        self.declared = xing.num_frames
        """Number of frames that the stream declares."""
        self.is_counted = bool(stream.prefix)
        """Whether `declared` is the number of those frames that were found."""
        self.frame_size = first.num_samples
        """Samples per channel of a frame."""
        self._format = first.format
        self._position = start if stream.prefix else start + first.size
        self._run_start, self._run_frames, self._last_size = self._position, 0, 0
        self._sizes: dict[bytes, int] = {}
        self._found: list[_Found] = []
        self._is_cut, self._is_done = False, False
        self.warning = ""
        """Why frames may be at a wrong position."""
        self._runs: list[Run] = []

    def runs(self, num_frames: int) -> list[Run]:
        """Return the runs of a damaged stream; none if its first `num_frames` frames are intact."""
        while not self._is_done and (self._found or self._run_frames < num_frames):
            self._walk()
            if self._is_done and self._found:
                self._close_run(self._position)
                self._runs = self._placed()
        return self._runs

    def part(self, run: Run) -> Stream:
        """Return a run as a stream; its samples have the delay of the encoder, as those of the whole one."""
        num_bytes = len(self._header) + run.end - run.start
        prefix = patch_xing(self._header, self._header_frame, run.num_frames + _MORE_FRAMES, num_bytes)
        return Stream(run.start, run.end, prefix)

    def _walk(self) -> None:
        """Go through a window of the file."""
        base, sizes, position = self._position, self._sizes, self._position
        window = self._source.read(base, min(_WINDOW, max(0, self._end - base)))
        last, count = len(window) - 4, 0
        while position - base <= last:
            header = window[position - base : position - base + 4]
            size = sizes.get(header) or self._size(header)
            if not size or position + size > self._end:
                break
            self._last_size = size
            position += size
            count += 1
        self._run_frames += count
        self._position = position
        if not count or (position - base <= last and position - base < _WINDOW):
            self._skip()

    def _size(self, header: bytes) -> int:
        """Return the size of the frame with a header, 0 if that cannot belong to the stream."""
        frame = parse_frame(header)
        if frame is None or frame.format != self._format:
            return 0
        self._sizes[header] = frame.size
        return frame.size

    def _skip(self) -> None:
        """Go from where no frame is to the next one."""
        position = self._position
        head = self._source.read(position, 8)
        following = find_frame(self._source, position)
        if following is None:
            following = find_distant_frame(self._source, position)
        is_tag = head.startswith(_TAGS)
        if following is None or following >= self._end or not self._continues(following):
            rest = self._source.read(position, max(0, min(_WINDOW, self._end - position)))
            self._is_cut, self._is_done = bool(rest.strip(b"\0")) and not is_tag, True
            return
        if not is_tag:
            # What is wrong may begin in the frame before, whose size led here.
            if self._run_frames:
                self._run_frames, position = self._run_frames - 1, position - self._last_size
            self._close_run(position)
            self._run_start = following
        self._position = following

    def _continues(self, position: int) -> bool:
        return can_continue(self._source, position, self._format)

    def _close_run(self, end: int) -> None:
        self._found.append(_Found(self._run_frames, self._run_start, end))
        self._run_frames = 0

    def _placed(self) -> list[Run]:
        """Return the runs with the number of frames before each: by the bytes between, or as declared."""
        runs = self._found
        present = sum(run.num_frames for run in runs)
        mean = sum(run.end - run.start for run in runs) / max(1, present)
        gaps = [after.start - before.end for before, after in pairwise(runs)]
        lost = [max(1, round(gap / mean)) for gap in gaps]
        more = self._more(present, sum(lost))
        lost[-1] += more
        # Of several gaps it is unknown where the bytes are that are missing or were inserted.
        is_certain = not more or len(gaps) == 1
        if self.is_counted and not all(map(self._is_exact, gaps, lost)):
            self.warning = _UNCERTAIN
        counts = (run.num_frames + after for run, after in zip(runs, [*lost, 0], strict=True))
        starts = list(accumulate(counts, initial=0))[:-1]
        return [
            Run(max(0, first), *run, is_certain or number in (0, len(runs) - 1))
            for number, (first, run) in enumerate(zip(starts, runs, strict=True))
        ]

    def _is_exact(self, num_bytes: int, lost: int) -> bool:
        """Return whether `lost` frames of a constant bit rate have `num_bytes` bytes."""
        sizes = self._sizes.values()
        return self._is_constant and lost * min(sizes) <= num_bytes <= lost * max(sizes)

    def _more(self, present: int, estimate: int) -> int:
        """Return how many frames are lost in addition to those that the bytes between runs stand for."""
        if self.is_counted or self._is_cut or self.declared <= present:
            return 0
        more = self.declared - present - estimate
        # An encoder may count the frame that holds the number of frames.
        return 0 if self._is_constant and abs(more) <= 1 else more

    @property
    def _is_constant(self) -> bool:
        return max(self._sizes.values()) - min(self._sizes.values()) <= _PADDING

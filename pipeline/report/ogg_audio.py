"""Audio of a recording for a page: Ogg Vorbis, encoded piece by piece up to a size limit."""

from __future__ import annotations

import base64
import io

import numpy as np
import soundfile

# Compression level of libsndfile, 0 to 1: an hour at 22,050 Hz takes 10 to 13 MB, a seventh of FLAC. Not MP3:
# browsers seek by its table of 100 entries, which is seconds off in an hour.
COMPRESSION = 0.9
# Size of the headers of a file, about.
HEADER_BYTES = 4500
# Samples per call: libvorbis needs stack memory for all of them.
CHUNK_SAMPLES = 1 << 16


class OggEncoder:
    """Encodes mono samples in pieces; holds the compressed bytes, and nothing once they exceed the limit."""

    def __init__(self, sample_rate: int, max_bytes: int):
        self._sample_rate, self._max_bytes = sample_rate, max_bytes
        self._buffer = io.BytesIO()
        self._num_samples = 0
        self._is_complete = False
        self._file: soundfile.SoundFile | None = None
        if max_bytes > 0:
            self._file = soundfile.SoundFile(
                self._buffer,
                "w",
                sample_rate,
                1,
                format="OGG",
                subtype="VORBIS",
                compression_level=COMPRESSION,
            )

    @property
    def fits(self) -> bool:
        """Whether the audio so far is within the limit."""
        return self._file is not None

    def write(self, samples: np.ndarray) -> None:
        """Append samples `[shape=(num_samples,)]`, full scale is 1; nothing beyond the limit."""
        samples = np.clip(np.nan_to_num(samples), -1.0, 1.0)
        for start in range(0, samples.size, CHUNK_SAMPLES):
            if self._file is None:
                return
            self._num_samples += len(samples[start : start + CHUNK_SAMPLES])
            self._file.write(samples[start : start + CHUNK_SAMPLES])
            if self._buffer.tell() > self._max_bytes:
                self._close()

    @property
    def bytes_per_second(self) -> float:
        """Bytes of a second of the audio so far, on average; 0 of none."""
        size = self._buffer.getbuffer().nbytes
        return size * self._sample_rate / self._num_samples if self._num_samples else 0.0

    def content(self) -> bytes | None:
        """Finish, and return the audio as the content of a file; None if it exceeds the limit."""
        if self._file is not None:
            self._close()
            self._is_complete = self._buffer.getbuffer().nbytes <= self._max_bytes
        return self._buffer.getvalue() if self._is_complete else None

    def data_uri(self) -> str | None:
        """Finish, and return the audio as a data URI; None if it exceeds the limit."""
        content = self.content()
        return None if content is None else audio_uri(content)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def audio_uri(content: bytes) -> str:
    """Return the content of an Ogg file as a data URI."""
    return "data:audio/ogg;base64," + base64.b64encode(content).decode()

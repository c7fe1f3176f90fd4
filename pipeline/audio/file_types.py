"""Which files are recordings: by the ending of the name, otherwise by the first bytes."""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipeline.io.storage import is_store_uri, to_path
from pipeline.io.store_errors import StoreError

# Endings of formats that libsndfile reads.
EXTENSIONS = frozenset(
    "aif aifc aiff au avr caf flac htk ircam mat mp1 mp2 mp3 mpc nist oga ogg opus paf pvf rf64 sd2".split()
    + "sds sf snd svx voc w64 wav wave wve xi".split()
)
# Endings of audio and video formats that it does not read.
UNSUPPORTED_EXTENSIONS = frozenset(
    "3g2 3ga 3gp 3gpp aa aac aax ac3 adts alac amr ape asf avi awb dff dsf dts eac3 flv gsm".split()
    + "m2ts m4a m4b m4p m4r m4v mka mkv mov mp4 mpeg mpg mts ogv pcm qcp qt ra ram raw rm shn".split()
    + "spx sud tak tta vob wac webm wma wmv wv".split()
)
# Those of them that FFmpeg reads, which needs the optional dependency PyAV.
AV_EXTENSIONS = UNSUPPORTED_EXTENSIONS - frozenset("aa aax m4p pcm ram raw sud wac".split())
# Endings of files that people keep next to recordings; these are not opened.
OTHER_EXTENSIONS = frozenset(
    "arff arrow asd asv avif bat bib bmp c cfg ckpt conf cpp css csv cue db doc docx eaf".split()
    + "feather gif h h5 hdf5 heic htm html ico ini ipynb jams jpeg jpg js json jsonl lab list".split()
    + "lnk lock log lrc lst m m3u m3u8 md md5 mid midi npy npz odt ods onnx parquet pb pdf".split()
    + "pickle pk pkl pls png ppt pptx pt pth py pyc r reapeaks rst rtf safetensors sfk sh sha1".split()
    + "sha256 sqlite srt svg tex textgrid tfrecord tif tiff toml torrent tsv txt url vtt webp".split()
    + "xls xlsx xml yaml yml".split()
)
# Files without ending that are no recordings, in lower case.
_OTHER_NAMES = frozenset(
    "authors changelog checksums citation contributing copying dockerfile icon\r licence license".split(" ")
    + "makefile manifest md5sums notice readme sha256sums thumbs todo version".split()
)
# Folders of operating systems and network disks, for deleted, damaged or derived files; in lower case.
_SYSTEM_FOLDERS = frozenset(
    ("$recycle.bin", "recycler", "system volume information", "lost.dir", "lost+found", "@eadir", "#recycle")
)
HEADER_BYTES = 16

_ENDING = re.compile(r"[A-Za-z0-9]{0,7}[A-Za-z][A-Za-z0-9]{0,7}")
_MAGIC: tuple[bytes, ...] = (
    b"fLaC",
    b"OggS",
    b"ID3",
    b".snd",
    b"dns.",
    b"caff",
    b"riff\x2e\x91\xcf\x11",
    b"NIST_1A",
    b"Creative Voice",
)
# Of amr, webm and mkv, wma, ape, wv, tta, ra, dsf, flv, aac and ac3.
_UNSUPPORTED_MAGIC: tuple[bytes, ...] = (
    b"#!AMR",
    b"\x1aE\xdf\xa3",
    b"0&\xb2u\x8ef\xcf\x11",
    b"MAC ",
    b"wvPk",
    b"TTA1",
    b".RMF",
    b"DSD ",
    b"FLV\x01",
    b"\xff\xf1",
    b"\xff\xf9",
    b"\x0bw",
)


class FileKind(Enum):
    """How a file in a folder of recordings is treated."""

    AUDIO = "read"
    UNSUPPORTED = "a recording in a format that cannot be read, or a file without ending"
    UNKNOWN = "neither the ending nor the content is known"
    OTHER = "no recording"


@cache
def has_av() -> bool:
    """Return whether PyAV is installed; it is imported where it is first used."""
    found = find_spec("av")
    # A folder of that name, such as one of recordings, has no origin.
    return found is not None and found.origin is not None


def ending(name: str) -> str:
    """Return the ending of a file name or path, in lower case and without dot; empty if it has none."""
    stem, dot, text = name.rpartition("/")[2].rpartition(".")
    return text.lower() if dot and stem and _ENDING.fullmatch(text) else ""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, such as `.DS_Store` and `._a.wav`, or of the system."""
    base = name.rpartition("/")[2]
    return base.startswith(".") or base.lower() in _SYSTEM_FOLDERS


def is_audio(name: str) -> bool:
    """Return whether a file name has an ending of a format that can be read; False for hidden files."""
    extension = ending(name)
    readable = extension in EXTENSIONS or (extension in AV_EXTENSIONS and has_av())
    return readable and not is_hidden(name)


def kind_by_name(name: str) -> FileKind | None:
    """Return the kind of a file; None if that needs its first bytes."""
    if is_audio(name):
        return FileKind.AUDIO
    if is_hidden(name) or ending(name) in OTHER_EXTENSIONS or name.rpartition("/")[2].lower() in _OTHER_NAMES:
        return FileKind.OTHER
    return None


def kind_by_content(name: str, header: bytes) -> FileKind:
    """Return the kind of a file that begins with these bytes, and whose name does not show it."""
    if is_audio_header(header) or (has_av() and _is_unsupported_header(header)):
        return FileKind.AUDIO
    extension = ending(name)
    if not extension or extension in UNSUPPORTED_EXTENSIONS or _is_unsupported_header(header):
        return FileKind.UNSUPPORTED
    return FileKind.UNKNOWN


def is_audio_header(header: bytes) -> bool:
    """Return whether a file that begins with these bytes is in a format that can be read."""
    if header[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return header[8:12] in (b"WAVE", b"")
    if header[:4] == b"FORM":
        return header[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV", b"")
    return header.startswith(_MAGIC) or _is_mpeg_header(header)


def _is_mpeg_header(header: bytes) -> bool:
    """Return whether bytes are the header of an MP3 or MP2 frame; text in UTF-16 also begins with 0xFF."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return False
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, sample_rate = header[2] >> 4, header[2] >> 2 & 3
    return version != 1 and layer in (1, 2) and 0 < bit_rate < 15 and sample_rate < 3


def _is_unsupported_header(header: bytes) -> bool:
    return header.startswith(_UNSUPPORTED_MAGIC) or header[4:8] == b"ftyp" or header[8:12] == b"AVI "


def read_header(path: str) -> bytes:
    """Return the first bytes of a local file or an object; fewer or none if it cannot be read.

    Raises:
        StoreError: an object store refuses the request, so that nothing is known of the file.
    """
    try:
        if is_store_uri(path):
            return to_path(path).read_start(HEADER_BYTES)
        # A named pipe or a device would block.
        if not Path(path).is_file():
            return b""
        with open(path, "rb") as file:
            return file.read(HEADER_BYTES)
    except StoreError:
        raise
    except (OSError, ValueError):
        return b""


def is_recording(path: Path) -> bool:
    """Return whether a file has the ending or the first bytes of a recording, readable or not."""
    extension = ending(path.name)
    return (
        extension in EXTENSIONS
        or extension in UNSUPPORTED_EXTENSIONS
        or (extension not in OTHER_EXTENSIONS and is_audio_header(read_header(str(path))))
    )


def unsupported_reason(path: str, content: bytes | None = None) -> str | None:
    """Return why a file is not in a format that can be read; None if it may be, or is missing or empty.

    Its first bytes are read unless `content` has them.
    """
    name = to_path(path).key if is_store_uri(path) else path  # without options, which may contain a dot
    if is_audio(name):
        return None
    header = read_header(path) if content is None else content[:HEADER_BYTES]
    if not header or kind_by_content("", header) is FileKind.AUDIO:
        return None
    extension = ending(name)
    if not extension:
        return "unsupported format: the name has no ending, and the content is not that of a known format"
    if extension in OTHER_EXTENSIONS:
        return f"not an audio file (.{extension})"
    return f"unsupported format '.{extension}'; {reading_hint(extension, 'it')}"


def reading_hint(extension: str, them: str = "them") -> str:
    """Return how files with that ending can be read, called `them` in the text."""
    conversion = f"convert {them}, e.g. `ffmpeg -i x.{extension} x.wav`"
    if extension in AV_EXTENSIONS and not has_av():
        return f"`pip install 'melray[av]'` to read {them}, or {conversion}"
    return conversion

"""Which annotation file belongs to which recording: that with the longest name with which it begins."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Sequence

from pipeline.audio.file_types import ending, is_hidden
from pipeline.data.annotations.annotation_files import ANNOTATION_ENDINGS
from pipeline.data.clips import normalize_id, shown
from pipeline.data.sources.audio_folders import is_output
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FolderTree, join


def annotation_names(tree: FolderTree) -> Iterator[str]:
    """Yield the files of a tree that may have annotations.

    Links to folders are followed last and without loops, as for recordings, whose ids are of the same paths.

    Raises:
        OSError: a folder cannot be read.
    """
    pending, links, seen = [""], deque[str](), set[Hashable]()
    while pending or links:
        if pending:
            folder = pending.pop()
        elif tree.contains_root(folder := links.popleft()):
            continue  # a link to a folder above, with what else is in it
        identity = tree.identity(folder)
        if identity in seen:
            continue
        seen.add(identity)
        listing = tree.list(folder)
        if folder and is_output(listing):
            continue
        pending += [join(folder, name) for name in reversed(listing.folders) if not is_hidden(name)]
        links += [join(folder, name) for name in listing.linked_folders if not is_hidden(name)]
        for name in listing.files:
            if ending(name) in ANNOTATION_ENDINGS and not is_hidden(name):
                yield join(folder, name)


class RecordingIndex:
    """Recordings by their names, with and without ending."""

    def __init__(self, clip_ids: Iterable[str]):
        """Index recordings by their ids, which are paths below the data folder."""
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for clip_id in clip_ids:
            plain = _plain(clip_id)
            stem = plain.rpartition(".")[0] if ending(plain) else plain
            for path in dict.fromkeys((plain, stem)):
                self._by_path[path].append(clip_id)
                self._by_name[path.rpartition("/")[2]].append(clip_id)

    def find(self, name: str, any_folder: bool) -> Sequence[str]:
        """Return the recordings that an annotation file can belong to.

        Args:
            name: path of the file below its folder, such as `site 1/rec.Table.1.selections.txt` of a
                recording `site 1/rec.wav`.
            any_folder: whether the recording may be in another folder.
        """
        folder, _, base = _plain(name).rpartition("/")
        stems = list(_stems(base))
        candidates = [self._by_path.get(join(folder, stem)) for stem in stems]
        if any_folder:
            candidates += [self._by_name.get(stem) for stem in stems]
        return next(filter(None, candidates), ())


def only_recording(name: str, found: Sequence[str]) -> str:
    """Return the recording of an annotation file, of those that it can belong to.

    Raises:
        UserError: there are several.
    """
    if len(found) > 1:
        raise UserError(
            f"--annotations: {shown(name)} can belong to {shown(found[0])} or {shown(found[1])}; rename "
            f"it {shown(found[0].rpartition('/')[2] + '.txt')}, or put it next to its recording"
        )
    return found[0]


def _stems(name: str) -> Iterator[str]:
    """Yield the parts before each dot of a name, the longest one first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _plain(name: str) -> str:
    return normalize_id(name).casefold()

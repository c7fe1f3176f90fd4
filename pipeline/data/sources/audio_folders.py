"""Recordings below a folder. Links are followed without loops, and whatever is left out is noted."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.audio.file_types import FileKind, ending, is_hidden, reading_hint
from pipeline.data.clips import NO_FOLD, clip_record, shown, shown_list
from pipeline.data.sources.file_kinds import file_kinds
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import MISSING, FolderTree, Listing, join
from pipeline.io.storage import is_store_uri
from pipeline.io.text import plural

# Files that identify an output folder of melray: all names of one of the sets are in it.
_OUTPUT_FILES = (
    {"_manifest.json"},
    {"generated.csv"},
    {".owner.json"},  # unfinished
    {"predictions.parquet", "submission.csv"},
    {"config.json", "owner.json"},
    {"config.json", "metrics.jsonl"},
    {"config.json", "summary.json"},
    {"search.json", "scores.jsonl"},
)


class ClassFolder(NamedTuple):
    """A folder whose recordings have the same label."""

    name: str
    """Path below the root of the tree."""
    label: str
    fold: int = NO_FOLD


@dataclass
class Omitted:
    """Files and folders that were left out, and recordings in unsupported formats."""

    unsupported: Counter[str] = field(default_factory=Counter)
    """Number of recordings in formats that cannot be read, by ending; "" for files without ending."""
    unsupported_are_kept: bool = False
    """Whether these are clips, which are reported as unreadable, instead of being left out."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Number of files of unknown content, by ending."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Reason for each folder that cannot be listed."""
    hidden: list[str] = field(default_factory=list)
    """Hidden folders with recordings."""
    outputs: list[str] = field(default_factory=list)
    """Output folders of melray."""
    other_class: dict[str, str] = field(default_factory=dict)
    """For folders that were reached through a link, the class for which they were read before."""
    special: list[str] = field(default_factory=list)
    """Devices, named pipes and sockets."""
    broken: list[str] = field(default_factory=list)
    """Links without ending whose target does not exist, such as folders on a disk that is not mounted."""

    def warnings(self) -> list[str]:
        """Return one line for each kind of files or folders."""
        lines = [self.unsupported_warning(), self.unknown_warning()]
        lines += [
            f"cannot read folder {shown(name)} ({reason}): its files are left out"
            for name, reason in self.unreadable.items()
        ]
        if self.hidden:
            lines.append(f"ignoring hidden folders with recordings: {shown_list(self.hidden)}")
        if self.outputs:
            lines.append(f"ignoring output folders of melray: {shown_list(self.outputs)}")
        if self.other_class:
            links = "; ".join(f"{shown(a)} ({shown(b)})" for a, b in list(self.other_class.items())[:5])
            links += f" and {len(self.other_class) - 5} more" if len(self.other_class) > 5 else ""
            lines.append(f"ignoring links to folders that were read for another class: {links}")
        if self.special:
            lines.append(f"ignoring devices, pipes or sockets: {shown_list(self.special)}")
        return [line for line in lines if line] + broken_links_warning(self.broken)

    def unsupported_warning(self) -> str:
        """Return a line about recordings in unsupported formats; empty if there are none."""
        count = self.unsupported.total()
        if not count:
            return ""
        example = next((name for name, _ in self.unsupported.most_common() if name), "m4a")
        verb = "cannot read" if self.unsupported_are_kept else "ignoring"
        return (
            f"{verb} {plural(count, 'file')} in unsupported formats ({_by_ending(self.unsupported)}); "
            f"{reading_hint(example)}"
        )

    def unknown_warning(self) -> str:
        """Return a line about files of unknown content; empty if there are none."""
        count = self.unknown.total()
        return f"ignoring {plural(count, 'file')} without audio ({_by_ending(self.unknown)})" if count else ""


def _by_ending(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{f'.{name}' if name else 'no ending'}: {count}" for name, count in ordered)


class AudioWalk:
    """A walk over folders of a tree, which reads every folder once."""

    def __init__(self, tree: FolderTree, keep_unsupported: bool = False):
        """With `keep_unsupported`, recordings in unsupported formats are clips as well."""
        self.omitted = Omitted(unsupported_are_kept=keep_unsupported)
        self._tree, self._keep_unsupported = tree, keep_unsupported
        self._labels: dict[Hashable, str] = {}  # label of each folder read, by the folder's identity

    def records(self, folders: Iterable[ClassFolder]) -> Iterator[tuple]:
        """Yield a manifest row for each recording below some folders; ids are paths below the root.

        Links to folders are followed last, so that files have the id of their real folder.

        Raises:
            UserError: the name of a file is not valid UTF-8.
        """
        for name, folder, kind in file_kinds(self._tree, self._files(folders)):
            if kind is FileKind.AUDIO or (kind is FileKind.UNSUPPORTED and self._keep_unsupported):
                status = self._tree.status(name)
                if status.is_regular:
                    yield clip_record(name, self._tree.path(name), folder.label, status, folder.fold)
                else:
                    self.omitted.special.append(name)
            self._note_format(name, kind)

    def _files(self, folders: Iterable[ClassFolder]) -> Iterator[tuple[str, ClassFolder]]:
        """Yield the files below some folders, each with the one of these that it is below."""
        links: deque[ClassFolder] = deque()
        for folder in folders:
            yield from self._folder_files(folder, links)
        while links:
            yield from self._folder_files(links.popleft(), links)

    def _folder_files(
        self, start: ClassFolder, links: deque[ClassFolder]
    ) -> Iterator[tuple[str, ClassFolder]]:
        # A link to the root or to one of its parents would lead to folders of all classes.
        pending = [] if start.name and self._tree.contains_root(start.name) else [start.name]
        while pending:
            folder = pending.pop()
            listing = self._enter(folder, start.label)
            links += [start._replace(name=join(folder, name)) for name in listing.linked_folders]
            pending += [join(folder, name) for name in reversed(listing.folders)]
            for name in listing.files:
                yield join(folder, name), start

    def _enter(self, folder: str, label: str) -> Listing:
        """Return the visible content of a folder; empty if it is left out."""
        try:
            identity = self._tree.identity(folder)
            if identity in self._labels:
                if self._labels[identity] != label:
                    self.omitted.other_class[folder] = self._labels[identity]
                return Listing()
            listing = self._tree.list(folder)
            self._labels[identity] = label
        except OSError as error:
            self.omitted.unreadable[folder] = error.strerror or str(error)
            return Listing()
        if folder and is_output(listing):
            self.omitted.outputs.append(folder)
            return Listing()
        return self._without_hidden(folder, listing)

    def _without_hidden(self, folder: str, listing: Listing) -> Listing:
        hidden = [name for name in listing.folders + listing.linked_folders if is_hidden(name)]
        self.omitted.hidden += with_recordings(self._tree, [join(folder, name) for name in hidden])
        return Listing(
            [name for name in listing.folders if not is_hidden(name)],
            [name for name in listing.linked_folders if not is_hidden(name)],
            listing.files,
        )

    def _note_format(self, name: str, kind: FileKind) -> None:
        if kind is FileKind.UNSUPPORTED and is_broken_link(self._tree, name):
            self.omitted.broken.append(name)
        elif kind is FileKind.UNSUPPORTED:
            self.omitted.unsupported[ending(name)] += 1
        elif kind is FileKind.UNKNOWN:
            self.omitted.unknown[ending(name)] += 1


def is_output(listing: Listing) -> bool:
    """Return whether a folder is an output folder of melray, such as a run folder."""
    return any(names.issubset(listing.files) for names in _OUTPUT_FILES)


def has_recordings(tree: FolderTree, folder: str) -> bool:
    """Return whether there is a recording in a folder or below it; also in an unsupported format."""
    walk = AudioWalk(tree, keep_unsupported=True)
    try:
        return any(True for _ in walk.records([ClassFolder(folder, "")]))
    except UserError:  # a name that is not UTF-8
        return True


def with_recordings(tree: FolderTree, folders: Iterable[str]) -> list[str]:
    """Return those folders in which, or below which, there is a recording."""
    names = list(folders)
    if not is_store_uri(tree.path("")):
        return [name for name in names if has_recordings(tree, name)]
    found = map_concurrently(lambda name: has_recordings(tree, name), names)
    return [name for name, is_found in zip(names, found, strict=True) if is_found]


def visible_folders(tree: FolderTree, folder: str) -> list[str]:
    """Return the names of folders in a folder; links are last, so that files belong to their real folder."""
    listing = tree.list(folder)
    return [name for name in listing.folders + listing.linked_folders if not is_hidden(name)]


def has_own_recordings(tree: FolderTree, folder: str) -> bool:
    """Return whether there is a recording directly in a folder."""
    return any(True for _ in own_recordings(tree, folder))


def own_recordings(tree: FolderTree, folder: str) -> Iterator[str]:
    """Yield the recordings directly in a folder, also in unsupported formats; and broken links."""
    files = ((join(folder, name), None) for name in tree.list(folder).files)
    for path, _, kind in file_kinds(tree, files):
        if kind in (FileKind.AUDIO, FileKind.UNSUPPORTED):
            yield path


def is_broken_link(tree: FolderTree, name: str) -> bool:
    """Return whether a name without ending is that of a link to nowhere, maybe to a missing folder."""
    return not ending(name) and tree.status(name).size == MISSING


def broken_links_warning(names: list[str]) -> list[str]:
    """Return a warning about broken links, if there are any."""
    return [f"broken links: {shown_list(names)}; is a disk not mounted?"] if names else []


def outside_warning(tree: FolderTree, folder: str, data: Path) -> list[str]:
    """Return warnings about recordings and broken links in a folder which should have class folders."""
    names = list(own_recordings(tree, folder))
    broken = [name for name in names if is_broken_link(tree, name)]
    count, path = len(names) - len(broken), data / folder if folder else data
    warnings = [f"ignoring {plural(count, 'audio file')} outside class folders in '{path}'"] if count else []
    return warnings + broken_links_warning(broken)

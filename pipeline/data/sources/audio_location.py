"""Where the audio files are that a table names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.file_finder import plain_path
from pipeline.data.sources.split_folder import SplitFolder

# How the path of a file below its folder consists of values of its row: as it is, in the folder of its class
# (BirdCLEF 2021), in the folder of its fold (UrbanSound8K).
AS_WRITTEN = "{path}"
PATTERNS = (AS_WRITTEN, "{label}/{path}", "fold{fold}/{path}")


@dataclass(frozen=True)
class AudioLocation:
    """A folder and how paths below it are written; ids of clips are these paths."""

    folder: Path
    pattern: str = AS_WRITTEN
    split_folder: SplitFolder | None = None
    """Which folder of a path is its split; only files of the training split are read."""
    former: str = ""
    """Start of the paths in the table, up to `/`, which stands for the folder: that of another computer."""

    def file_name(self, path: str, label: str, fold: str) -> str:
        """Return the path of a file below the folder, from the values of its row."""
        if self.former:
            return plain_path(path).removeprefix(self.former)
        if self.pattern == AS_WRITTEN:
            return path
        number = fold.removesuffix(".0").removeprefix("fold")
        return self.pattern.format(path=path.strip(), label=label, fold=number)

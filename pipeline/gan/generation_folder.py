"""Output folder of `melray generate`: whose results are in it, and what may be replaced.

`generated.json` is written before the first clip: it identifies the job, so that only the same job resumes.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa

from pipeline.data.duplicates import DUPLICATES_NAME
from pipeline.data.footer_file import FOOTERS_NAME
from pipeline.data.shard_manifest import MANIFEST_NAME
from pipeline.data.shards import REJECTED_NAME, WARNINGS_NAME
from pipeline.data.split_record import GENERATOR_SPLIT_NAME
from pipeline.distributed.clip_list import read_clip_ids
from pipeline.gan.config import GenerateConfig
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError, is_of_storage
from pipeline.io.files import remove_temporary_files, write_text_atomically
from pipeline.io.output_folder import Content, check_output_folder
from pipeline.io.storage import remove_files, remove_tree

JOB_NAME, TABLE_NAME = "generated.json", "generated.csv"
REPLACEABLE: tuple[Content, ...] = ("dataset", "generated dataset", "generated audio")
_SHARD_NAME = re.compile(r"part-\d{5}-[0-9a-f]{12}\.parquet")
_HINT = ", or add --overwrite to replace it"


def check_folder(config: GenerateConfig, settings: dict[str, Any], clip_ids: Iterable[str]) -> None:
    """Check that the folder has nothing that the job would replace, unless `overwrite` is set.

    Args:
        config: configuration of the command.
        settings: all that determines the clips, as JSON values.
        clip_ids: ids of the clips, with their folders.

    Raises:
        UserError: results of another command, or of one with other settings, or audio files with the names of
            clips to generate.
    """
    out = config.out
    existing = _read_settings(out)
    if existing == settings:
        check_output_folder(out, ("generated dataset", "generated audio"))
        return
    check_output_folder(out, REPLACEABLE if config.overwrite else (), hint="" if config.overwrite else _HINT)
    if config.overwrite:
        return
    if existing is not None:
        raise UserError(f"--out {out} contains clips of an interrupted generation with other settings{_HINT}")
    if _shards(out):
        raise UserError(f"--out {out} contains shards of an interrupted command{_HINT}")
    folders = {clip_id.split("/")[0] for clip_id in clip_ids}
    listings = map_concurrently(lambda name: list((out / name).glob("*.wav")), folders)
    names = {f"{path.parent.name}/{path.stem}" for paths in listings for path in paths}
    for clip_id in clip_ids:
        if clip_id in names:
            raise UserError(f"--out {out} already contains {clip_id}.wav, which is not of this job{_HINT}")


def start_job(config: GenerateConfig, settings: dict[str, Any]) -> None:
    """Delete the results of another job, if any, and write `generated.json`.

    Files that melray did not write are kept.

    Raises:
        OSError: a file cannot be deleted or written.
    """
    out = config.out
    if _read_settings(out) == settings:
        return
    delete_shards(out)
    _delete_audio(out)
    remove_tree(out / ".parts")  # or the units of the other job would count as done
    text = json.dumps({"generator": str(config.run), "settings": settings}, indent=1, ensure_ascii=False)
    write_text_atomically(out / JOB_NAME, text)


def remove_unfinished_files(out: Path, clip_ids: Iterable[str]) -> None:
    """Delete what a command that was killed was writing to the folders of the clips."""
    for name in {clip_id.split("/")[0] for clip_id in clip_ids}:
        remove_temporary_files(out / name)


def delete_shards(out: Path) -> None:
    """Delete the shards of a folder, and all that describes them."""
    described = (MANIFEST_NAME, GENERATOR_SPLIT_NAME, REJECTED_NAME, WARNINGS_NAME, DUPLICATES_NAME)
    remove_files([out / name for name in (*described, FOOTERS_NAME)] + _shards(out))


def _shards(out: Path) -> list[Path]:
    """Return the shards in a folder; other programs write files with similar names."""
    return [path for path in out.glob("part-*.parquet") if _SHARD_NAME.fullmatch(path.name)]


def _delete_audio(out: Path) -> None:
    """Delete `generated.csv`, the files that it lists, and those of an interrupted job."""
    listed = _audio_files(out / TABLE_NAME) if (out / TABLE_NAME).is_file() else []
    audio = [out / name for name in [*listed, *_unpublished_files(out)]]
    remove_files(path.with_suffix(suffix) for path in audio for suffix in (".wav", ".png"))
    (out / TABLE_NAME).unlink(missing_ok=True)


def _unpublished_files(out: Path) -> list[str]:
    """Return the audio files that an interrupted job has or would have written, relative to its folder.

    Raises:
        OSError: the storage cannot be read.
    """
    if (_read_settings(out) or {}).get("as_shards", True):
        return []
    try:
        ids = [read_clip_ids(path) for path in (out / ".parts").glob(".units-*.arrow")]
    except (OSError, pa.ArrowException, KeyError) as error:
        if is_of_storage(error):
            raise
        return []
    return [f"{clip_id}.wav" for job in ids for clip_id in job if _is_inside(PurePosixPath(clip_id))]


def _audio_files(table: Path) -> list[str]:
    """Return the audio files that a `generated.csv` lists, relative to its folder; none outside it."""
    try:
        names = pd.read_csv(io.BytesIO(table.read_bytes()), keep_default_na=False)["file"]
    except (ValueError, KeyError):
        return []
    return [name for name in map(str, names) if _is_inside(PurePosixPath(name))]


def _is_inside(path: PurePosixPath) -> bool:
    return len(path.parts) == 2 and not path.is_absolute() and ".." not in path.parts


def _read_settings(out: Path) -> dict[str, Any] | None:
    """Return the settings of the job that wrote a folder; None if there is none, or no usable file.

    Raises:
        OSError: the storage cannot be read: what it has is not to be deleted for that.
    """
    try:
        settings = json.loads((out / JOB_NAME).read_text(encoding="utf-8"))["settings"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return settings if isinstance(settings, dict) else None

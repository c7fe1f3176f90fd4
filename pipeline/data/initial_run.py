"""Clips that the run was trained on whose weights another run starts from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.data.duplicates import SILENCE
from pipeline.data.split_record import (
    SPLIT_NAME,
    leakage_error,
    read_split_record,
    shared_rows,
    trained_clips,
)
from pipeline.io.errors import UserError

# Of files of weights; those other than safetensors are read by timm.
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def initial_clips(path: Path, evaluated: pd.DataFrame) -> tuple[pd.DataFrame | None, list[str]]:
    """Return the clips that a run was trained on, None if they are not known; and warnings.

    Args:
        path: folder of the run, or its model file.
        evaluated: validation and held-out clips of the run that starts from its weights.

    Raises:
        UserError: the run was trained on some of them, so that scores would be too high; no such file or
            folder, or a file that cannot hold weights.
    """
    _check_path(path)
    folder = path.parent if path.suffix in WEIGHT_SUFFIXES else path
    record = read_split_record(folder / SPLIT_NAME)
    if record is None:
        return None, [
            f"--init-from {path}: cannot check that it was not trained on clips that are validated or held "
            f"out here: no {SPLIT_NAME} in {folder}"
        ]
    trained = trained_clips(record)
    same_audio = (
        evaluated["content"].isin(set(trained["content"])) & (evaluated["content"] != SILENCE)
    ).to_numpy()
    if same_audio.any():
        raise leakage_error(f"--init-from {path}", evaluated, same_audio)
    # Other datasets, on which networks are trained first, often number their files in the same way.
    same_ids = shared_rows(evaluated, trained)
    if same_ids.any():
        example = evaluated["clip_id"].to_numpy()[same_ids][0]
        return trained, [
            f"--init-from {path}: {int(same_ids.sum())} of the {len(evaluated)} clips that are validated or "
            f"held out here have ids or groups of clips that it was trained on, such as '{example}'; if they "
            "are the same recordings, scores are too high"
        ]
    return trained, []


def _check_path(path: Path) -> None:
    """Check that initial weights can be at a path, before what is said about their clips.

    Raises:
        UserError: no such file or folder, or a file of another kind.
    """
    if path.is_dir():
        return
    if not path.is_file():
        raise UserError(f"--init-from {path}: no such file or folder")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise UserError(
            f"--init-from {path}: neither the folder of a run nor a file of weights "
            f"({', '.join(WEIGHT_SUFFIXES)})"
        )

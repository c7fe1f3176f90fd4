"""What a GAN's run shows when it ends, and again when it is scored: an animation of its samples, and the report.

Real clips sound as their spectrograms do, through the same vocoder as the drawn ones: what differs is then the generator's doing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.audio.features import FeatureConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.data.dataset import ShardDataset
from pipeline.data.split import Split
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.report import ClassSounds, EpochSnapshot, NearestPair, Sound, write_gan_report
from pipeline.gan.sampling import generate_mel, latents_from_seed, mel_to_samples
from pipeline.gan.snapshots import STAGE_NAME
from pipeline.io.errors import report_os_errors
from pipeline.report.figures import write_animation
from pipeline.training.checkpoint import load_tensors
from pipeline.training.model_file import SavedGenerator, load_generator
from pipeline.training.run import load_run_data
from pipeline.training.run_folder import RunFolder

REAL_SHOWN, DRAWN_SHOWN = 2, 3


def write_run_report(
    run: Path,
    metrics: Mapping[str, Any] | None = None,
    neighbours: Sequence[NearestPair] = (),
    out: Path | None = None,
) -> None:
    """Writes `samples/progress.gif` and `report.html`.

    Raises:
        UserError: an unusable run, or no room.
    """
    config, rows, split = load_run_data(run, TrainGanConfig)
    saved = load_generator(run)
    folders = sorted((run / "samples").glob("epoch_*"))
    training = saved.card.training
    summary = {
        "shards": config.shards.name,
        "training clips": f"{len(split.train):,}",
        "epoch of the weights": f"{training['epoch']} of {config.epochs}",
        "loss": config.loss,
    }
    with report_os_errors("writing to", out or run):
        if pictures := [folder / "grid.png" for folder in folders if (folder / "grid.png").is_file()]:
            write_animation(run / "samples" / "progress.gif", pictures)
        write_gan_report(
            (out or run) / "report.html",
            title="Sound generator",
            summary=summary,
            metrics=metrics,
            history=RunFolder(run).read_history(),
            classes=class_sounds(saved, rows, split),
            stages=[stage(folder) for folder in folders if (folder / STAGE_NAME).is_file()],
            neighbours=neighbours,
            features=rows.features,
            settings=config.identity(),
        )


def stage(folder: Path) -> EpochSnapshot:
    """The samples of an epoch, the first of each class."""
    return EpochSnapshot(
        int(folder.name.removeprefix("epoch_")), load_tensors(folder / STAGE_NAME)[0]["mels"].float().numpy()
    )


def class_sounds(saved: SavedGenerator, rows: ShardDataset, split: Split) -> list[ClassSounds]:
    """For each class some real training clips and some drawn ones."""
    torch.set_num_threads(1)
    features = rows.features
    vocoder = Vocoder(features.mel)
    classes = []
    for label, name in enumerate(rows.class_names):
        own = split.train[rows.labels[split.train] == label][:REAL_SHOWN]
        real = [
            sound(str(rows.table["clip_id"][row]), rows.mels[row].astype(np.float32), features, vocoder)
            for row in own
        ]
        drawn = []
        for seed in range(1, DRAWN_SHOWN + 1):
            mel = generate_mel(saved.model, latents_from_seed(saved.model, [seed]), label, features.mel)
            drawn.append(sound(f"seed {seed}", mel, features, vocoder, seed))
        classes.append(ClassSounds(name, real, drawn))
    return classes


def sound(name: str, mel: np.ndarray, features: FeatureConfig, vocoder: Vocoder, seed: int = 0) -> Sound:
    """A spectrogram and what it sounds like."""
    return Sound(name, mel, mel_to_samples(mel, features, vocoder, seed))

"""Generation: new sounds of chosen classes from a trained generator, as files or as rows for a training.

OUT/<class>/seed_00001.wav, .png    a sound and its spectrogram
OUT/generated.csv                   a table of what was made
OUT/part-*.parquet, _manifest.json  instead, with --as-shards: rows that `train-classifier --extra-shards` takes

Every clip has its own seed, so any number of workers draws the same ones, and a job that was broken off goes on where it
stopped: it is cut into units, as extraction and prediction are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from pipeline.audio.decode import write_wav
from pipeline.audio.features import AugmentConfig, Spectrogram
from pipeline.audio.vocoder import Vocoder
from pipeline.data.manifest import NO_FOLD
from pipeline.data.shards import MANIFEST_NAME, ShardManifest, read_shard_footer, write_shard
from pipeline.distributed.batch_job import (
    WorkUnit,
    actor_pool,
    dataset_of_units,
    iter_single_stage,
    make_work_units,
    read_unit_clips,
    unit_to_row,
)
from pipeline.distributed.resources import AutoscalingConfig
from pipeline.distributed.worker import disable_malloc_trim
from pipeline.gan.reference_classifier import embed_and_classify, load_reference_classifier
from pipeline.gan.sampling import generate_mel, latents_from_seed, mel_to_samples, slerp
from pipeline.io.console import Progress
from pipeline.io.errors import UserError, explain_os_error, report_os_errors
from pipeline.io.files import file_names, write_atomically, write_text_atomically
from pipeline.io.storage import PathOrURI, remove_tree
from pipeline.report.figures import spectrogram_png
from pipeline.training.model_file import MODEL_NAME, GeneratorMetadata, generator_card, load_generator

CLIPS_PER_UNIT = 16
# A clip that the judge refuses is drawn anew so often, each time from a seed of its own.
MAX_DRAWS = 10
# Fewer clips than this are made in less time than Ray needs to start.
MIN_CLIPS_FOR_RAY = 100


class GenerateConfig(AutoscalingConfig):
    """Makes new sounds of chosen classes."""

    run: PathOrURI
    """Folder of a trained GAN."""
    out: PathOrURI
    """Folder for the sounds, their pictures and generated.csv. The same command again goes on where it stopped."""
    label: tuple[str, ...] = ()
    """Classes to draw, by name; none draws all."""
    count: int = Field(8, ge=1)
    """Clips of each class."""
    seed: int = Field(1, ge=0)
    """Seed of the first clip of each class; the next has the next number. The same seed gives the same files."""
    interpolate_to: int | None = Field(None, ge=0)
    """Second seed: the clips of a class are then steps on the way from --seed to it."""
    min_confidence: float = Field(0.0, ge=0, lt=1)
    """Draws a clip anew, up to ten times, until the judge is so sure of its class; one that never passes is left out."""
    iterations: int = Field(32, ge=1, le=1000)
    """Of Griffin-Lim, which finds the sound of a picture; more sounds cleaner."""
    as_shards: bool = False
    """Write rows for `train-classifier --extra-shards` instead of sounds."""
    workers: int | None = Field(None, ge=1)
    """Actors that draw side by side; by default one a CPU for 100 clips or more, and this process for fewer."""


Runner = Callable[[list[WorkUnit], GenerateConfig], Iterator[int]]


def generate(config: GenerateConfig, run: Runner | None = None) -> pd.DataFrame:
    """Makes what is missing and the table of all; `run` makes the units, by default in this process.

    Raises:
        UserError: an unusable run, an unknown class, no judge to be confident, a full disk.
    """
    card = generator_card(config.run)
    labels = chosen_labels(config, card)
    if config.min_confidence and load_reference_classifier(config.run, "selection") is None:
        raise UserError(
            f"--min-confidence {config.min_confidence:g}: {config.run} was trained without a judge (--no-select-best)"
        )
    parts = config.out / ".parts"
    with report_os_errors("creating", config.out):
        parts.mkdir(parents=True, exist_ok=True)
    units = plan_units(config, labels)
    pending = [unit for unit in units if not (parts / unit.name).is_file()]
    total = sum(unit.clips for unit in units)
    progress = Progress("drawing", total, "clips", done=total - sum(unit.clips for unit in pending))
    for count in (run or run_in_process)(pending, config) if pending else ():
        progress.add(count)
    progress.finish()
    return _finalize_output(config, card, labels, units)


def needs_cluster(config: GenerateConfig) -> bool:
    """Whether the job is large enough to be spread over a cluster."""
    labels = chosen_labels(config, generator_card(config.run))
    return config.workers is not None or len(labels) * config.count >= MIN_CLIPS_FOR_RAY


def chosen_labels(config: GenerateConfig, card: GeneratorMetadata) -> list[str]:
    """The classes to draw.

    Raises:
        UserError: one that the generator doesn't know.
    """
    unknown = [label for label in config.label if label not in card.class_names]
    if unknown:
        raise UserError(f"--label '{unknown[0]}': the generator knows {', '.join(card.class_names)}")
    return list(dict.fromkeys(config.label)) or list(card.class_names)


def plan_units(config: GenerateConfig, labels: list[str]) -> list[WorkUnit]:
    """Cuts the clips into units named by the model, the settings and the seeds."""
    names = file_names(labels)
    records = []
    for label in labels:
        for number in range(config.count):
            seed, share, name = config.seed + number, 0.0, f"seed_{config.seed + number:05d}"
            if config.interpolate_to is not None:
                seed, share = config.seed, number / max(1, config.count - 1)
                name = f"from_{seed}_to_{config.interpolate_to}_{number + 1:03d}"
            records.append(
                {"clip_id": f"{names[label]}/{name}", "label": label, "seed": seed, "share": share}
            )
    model = hashlib.sha256((config.run / MODEL_NAME).read_bytes()).hexdigest()
    settings = [model, config.interpolate_to, config.min_confidence, config.iterations, config.as_shards]
    return make_work_units(pd.DataFrame(records), CLIPS_PER_UNIT, settings, config.out / ".parts")


def run_in_process(units: list[WorkUnit], config: GenerateConfig) -> Iterator[int]:
    """Draws the units in this process."""
    drawer = ClipGenerator(config)
    for unit in units:
        yield _count(drawer(unit_to_row(unit)))


def run_units(units: list[WorkUnit], config: GenerateConfig) -> Iterator[int]:
    """Lets Ray Data draw the units; yields the clips of each as it is done.

    Raises:
        UserError: more actors than the cluster has room for, or a file that can't be written.
    """
    pool = actor_pool(config.workers, len(units), config.wait_for_nodes)
    drawn = dataset_of_units(units).map(ClipGenerator, fn_constructor_kwargs={"config": config}, compute=pool)
    yield from map(_count, iter_single_stage(drawn))


class ClipGenerator:
    """Holds generator, judge and vocoder, and turns units into files."""

    def __init__(self, config: GenerateConfig):
        disable_malloc_trim()
        # With one thread everywhere the same seed gives the same bytes everywhere.
        torch.set_num_threads(1)
        self._config = config
        self._saved = load_generator(config.run)
        self._judge = load_reference_classifier(config.run, "selection")
        self._vocoder = Vocoder(self._saved.card.features.mel, config.iterations)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Draws one unit; returns its count of clips, or the fault that kept it from being written."""
        out = self._config.out
        try:
            clips = read_unit_clips(row)
            mels = [self._drawn(clip) for clip in clips]
            kept = [(clip, mel) for clip, mel in zip(clips, mels, strict=True) if mel is not None]
            if self._config.as_shards:
                self._write_part(out / row["name"], kept)
            else:
                for clip, mel in kept:
                    self._write_sound(out / clip["clip_id"], clip, mel)
            # Last: its presence says that the unit is done.
            write_text_atomically(out / ".parts" / row["name"], json.dumps(clips))
        except OSError as error:
            return {"clips": 0, "fault": explain_os_error(error, f"writing to {out}")}
        return {"clips": len(clips), "fault": ""}

    def _drawn(self, clip: dict[str, Any]) -> np.ndarray | None:
        """A clip's spectrogram, or none where no attempt convinced the judge; notes in `clip` how it went."""
        features, names = self._saved.card.features, self._saved.card.class_names
        label = names.index(clip["label"])
        for attempt in range(MAX_DRAWS if self._config.min_confidence else 1):
            mel = generate_mel(self._saved.model, self._latents(clip, attempt), label, features.mel)
            heard, confidence = "", float("nan")
            if self._judge is not None:
                chances = embed_and_classify(self._judge, mel[None])[1][0]
                heard, confidence = names[int(chances.argmax())], float(chances[label])
            clip |= {
                "attempts": attempt + 1,
                "predicted_label": heard,
                "confidence": confidence,
                "kept": True,
            }
            if not confidence < self._config.min_confidence:
                return mel
        clip["kept"] = False
        return None

    def _latents(self, clip: dict[str, Any], attempt: int) -> Any:
        extra = [attempt] if attempt else []
        first = latents_from_seed(self._saved.model, [clip["seed"], *extra])
        if self._config.interpolate_to is None:
            return first
        return slerp(
            first, latents_from_seed(self._saved.model, [self._config.interpolate_to, *extra]), clip["share"]
        )

    def _write_sound(self, path: Path, clip: dict[str, Any], mel: np.ndarray) -> None:
        features = self._saved.card.features
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = mel_to_samples(mel, features, self._vocoder, clip["seed"])
        write_wav(path.with_suffix(".wav"), samples, features.mel.sample_rate)
        picture = spectrogram_png(mel, features.mel, f"{clip['label']}, {path.name.replace('_', ' ')}")
        write_atomically(path.with_suffix(".png"), lambda file: file.write(picture))
        clip |= {"file": f"{clip['clip_id']}.wav", "peak": float(np.abs(samples).max())}

    def _write_part(self, path: Path, kept: list[tuple[dict[str, Any], np.ndarray]]) -> None:
        clips = [
            {"clip_id": c["clip_id"], "path": "", "label": c["label"], "fold": NO_FOLD, "group": c["clip_id"]}
            for c, _ in kept
        ]
        rows = [[Spectrogram(0, 0.0, "generated", mel.astype(np.float16))] for _, mel in kept]
        write_shard(path, clips, rows, [], self._saved.card.features.shape)


def _count(row: dict[str, Any]) -> int:
    if row["fault"]:
        raise UserError(row["fault"])
    return int(row["clips"])


def _finalize_output(
    config: GenerateConfig, card: GeneratorMetadata, labels: list[str], units: list[WorkUnit]
) -> pd.DataFrame:
    """Writes the table, and the manifest of shards; clears away what the job needed for itself."""
    parts = config.out / ".parts"
    with report_os_errors("writing to", config.out):
        table = pd.DataFrame([clip for unit in units for clip in json.loads((parts / unit.name).read_text())])
        write_text_atomically(config.out / "generated.csv", table.to_csv(index=False, lineterminator="\n"))
        if config.as_shards:
            _publish_shards(config, card, table, units)
        remove_tree(parts)
    refused = int((~table["kept"]).sum())
    note = f"; {refused} never reached --min-confidence {config.min_confidence:g}" if refused else ""
    print(f"{len(table) - refused} clips of {len(labels)} classes{note}", flush=True)
    print(
        f"shards: {config.out}"
        if config.as_shards
        else f"sounds: {config.out}\ntable: {config.out / 'generated.csv'}",
        flush=True,
    )
    return table


def _publish_shards(
    config: GenerateConfig, card: GeneratorMetadata, table: pd.DataFrame, units: list[WorkUnit]
) -> None:
    made = tuple(read_shard_footer(config.out / unit.name)[0] for unit in units)
    kept = table[table["kept"]]
    manifest = ShardManifest(
        fingerprint=card.features.fingerprint,
        features=card.features,
        augment=AugmentConfig(copies=0),
        class_names=tuple(sorted(kept["label"].unique())),
        clips=len(kept),
        rows=len(kept),
        rejected=0,
        source={
            "generator": str(config.run),
            "clips_by_class": kept["label"].value_counts().sort_index().to_dict(),
        },
        parts=made,
    )
    write_text_atomically(
        config.out / MANIFEST_NAME, json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False)
    )
    for path in config.out.glob("part-*.parquet"):
        if path.name not in {part.name for part in made}:
            path.unlink()

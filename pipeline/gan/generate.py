"""Generation: clips of chosen classes from a trained generator, as audio files or as shards of training data.

OUT/<class>/seed_00001.wav, .png    audio and spectrogram image of a clip
OUT/generated.csv                   one row per clip
OUT/generated.json                  generator and settings of the clips
OUT/part-*.parquet, _manifest.json  instead, with --as-shards: a dataset for `train-classifier --extra-shards`

Each clip has its own seed, so the result does not depend on the number of workers; GPUs change the last bits
of its values. It is a batch job (`pipeline/distributed/batch_job.py`): a unit's output in `OUT/.parts` is the
JSON list of its rows of generated.csv, written after the files of its clips. An interrupted job that is
resumed on other devices keeps its clips.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch

from pipeline.audio.augment import AugmentConfig
from pipeline.data.clips import normalize_id, shown_list
from pipeline.data.shard_manifest import ShardManifest, write_manifest
from pipeline.data.shards import read_shard_footer
from pipeline.data.split_record import GENERATOR_SPLIT_NAME, SPLIT_NAME
from pipeline.data.split_warnings import name_list
from pipeline.distributed.batch_job import BatchJob, Runner, run_in_process
from pipeline.distributed.devices import process_device, resolve_gpus, worker_device
from pipeline.distributed.execution import runs_here
from pipeline.distributed.process_runner import ProcessRunner
from pipeline.distributed.processes import start_fork_server
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import cluster_nodes
from pipeline.distributed.unit_size import unit_size
from pipeline.distributed.work_unit import WorkUnit, damaged_output
from pipeline.gan.clip_generator import ClipGenerator, ClipWriter, max_attempts
from pipeline.gan.config import GenerateConfig
from pipeline.gan.generation_folder import (
    TABLE_NAME,
    check_folder,
    delete_shards,
    remove_unfinished_files,
    start_job,
)
from pipeline.gan.reference_classifier import load_selection_classifier
from pipeline.io.concurrent import map_concurrently
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import file_names, write_atomically, write_text_atomically
from pipeline.io.folder_lock import own_folder
from pipeline.io.text import plural
from pipeline.training.model_file import GeneratorMetadata, load_generator_metadata, model_digest

# Clips of a work unit; more if there would be more than a thousand units.
CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT = 16, 128
# More would not fit in the memory of this process, nor their shards on most disks.
MAX_CLIPS = 1_000_000
# Seconds of a core for a clip, most of them for its phases, within a factor of two.
CLIP_SECONDS = 0.1


def generate(
    config: GenerateConfig,
    runner: Runner = run_in_process,
    choose_device: Callable[[], torch.device] | None = None,
) -> pd.DataFrame:
    """Generate the missing clips; return the table of all clips.

    Args:
        config: settings of the command.
        runner: runs the work units, by default in this process.
        choose_device: returns the device of the process that generates (default: as `--device` says, of this
            process).

    Raises:
        UserError: an unusable run, an unknown class, --min-confidence without a reference classifier or with
            a single class, too few resources, a full disk, an output folder in use or with other results, or
            no clip that reaches --min-confidence.
    """
    metadata = load_generator_metadata(config.run)
    labels = chosen_labels(config, metadata)
    if config.min_confidence and load_selection_classifier(config.run) is None:
        reason = (
            f"{config.run} has no reference classifier; train with --select-best, or drop --min-confidence"
        )
        if len(metadata.class_names) == 1:
            reason = "the generator has a single class, and there is no other to take a clip for; drop it"
        raise UserError(f"--min-confidence {config.min_confidence:g}: {reason}")
    with own_folder(config.out, "generate") as owner:
        settings, clips = job_settings(config, labels), clip_table(config, labels, metadata)
        check_folder(config, settings, clips["clip_id"])
        with report_os_errors("writing to", config.out):
            start_job(config, settings)
            remove_unfinished_files(config.out, clips["clip_id"])
        job = plan_job(config, settings, clips)
        choose_device = choose_device or partial(process_device, config.device)
        generator = partial(ClipGenerator, config, choose_device, settings["model"])
        job.run([generator, partial(ClipWriter, config, metadata)], runner)
        owner.check()
        with report_os_errors("writing to", config.out):
            table = _publish(config, metadata, job.units)
            job.clean_up()
            if config.as_shards and not table["kept"].any():
                delete_shards(config.out)
    _report_dropped(config, table)
    _print_result(config, table)
    return table


def generate_by_size(config: GenerateConfig) -> pd.DataFrame:
    """Generate on this host if the clips are few, else on Ray; otherwise as `generate`."""
    clips = config.count * len(chosen_labels(config, load_generator_metadata(config.run)))
    if not runs_here(CLIP_SECONDS * clips):
        return generate_on_cluster(config)
    uses_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if clips <= CLIPS_PER_UNIT or uses_gpu:
        return generate(config)
    start_fork_server([__name__])
    return generate(config, ProcessRunner(config.workers), partial(worker_device, 0.0))


def generate_on_cluster(config: GenerateConfig) -> pd.DataFrame:
    """Generate on the cluster, on GPUs if it has them; otherwise as `generate`."""
    gpus = resolve_gpus(config, config.workers or 1, cluster_nodes())
    hint = "raise --gpus-per-worker, or generate with --device cpu" if gpus else "lower --workers"
    runner = RayRunner(config.wait_for_nodes, config.workers, gpus, gpu_stage=0, memory_hint=hint)
    return generate(config, runner, partial(worker_device, gpus))


def chosen_labels(config: GenerateConfig, metadata: GeneratorMetadata) -> list[str]:
    """Return the classes to generate.

    Raises:
        UserError: a class that the generator was not trained on, or too many clips.
    """
    requested = [normalize_id(label) for label in config.label]
    unknown = sorted(set(requested) - set(metadata.class_names))
    if unknown:
        raise UserError(
            f"--label '{unknown[0]}': unknown class; available: {shown_list(metadata.class_names, 20)}"
        )
    labels = list(dict.fromkeys(requested)) or list(metadata.class_names)
    if (total := config.count * len(labels)) > MAX_CLIPS:
        raise UserError(
            f"--count {config.count}: {total:,} clips of {len(labels)} classes are more than {MAX_CLIPS:,}; "
            "lower it, and generate more by another command with another --seed and --out"
        )
    return labels


def job_settings(config: GenerateConfig, labels: list[str]) -> dict[str, Any]:
    """Return all that determines the clips."""
    names = {"count", "seed", "interpolate_to", "min_confidence", "iterations", "as_shards"}
    if not config.normalize:  # else as in earlier versions, whose jobs continue
        names.add("normalize")
    return {"model": model_digest(config.run), "labels": labels, **config.model_dump(include=names)}


def plan_job(config: GenerateConfig, settings: dict[str, Any], clips: pd.DataFrame) -> BatchJob:
    """Plan a generation, with outputs that are determined by the model, the settings and the seeds."""
    folder = config.out / ".parts"
    size = unit_size(clips, CLIPS_PER_UNIT, MAX_CLIPS_PER_UNIT, worthwhile=CLIPS_PER_UNIT)
    return BatchJob("generating", clips, size, settings=settings, folder=folder)


def clip_table(config: GenerateConfig, labels: list[str], metadata: GeneratorMetadata) -> pd.DataFrame:
    """Return id, label, seed and interpolation fraction of the clips to generate."""
    # Of all classes: the folder of a class must not depend on which others are generated.
    folders = file_names(metadata.class_names)
    records = []
    for label in labels:
        for number in range(config.count):
            seed, interpolation, name = config.seed + number, 0.0, f"seed_{config.seed + number:05d}"
            if config.interpolate_to is not None:
                seed, interpolation = config.seed, number / max(1, config.count - 1)
                name = f"from_{seed}_to_{config.interpolate_to}_{number + 1:03d}"
            records.append(
                {
                    "clip_id": f"{folders[label]}/{name}",
                    "label": label,
                    "seed": seed,
                    "interpolation": interpolation,
                }
            )
    return pd.DataFrame(records)


def _publish(config: GenerateConfig, metadata: GeneratorMetadata, units: list[WorkUnit]) -> pd.DataFrame:
    """Write the table of all clips, and the manifest of the shards unless they are empty."""
    table = pd.DataFrame([clip for part in map_concurrently(_read_part, units) for clip in part])
    write_text_atomically(config.out / TABLE_NAME, table.to_csv(index=False, lineterminator="\n"))
    if config.as_shards and table["kept"].any():
        _publish_shards(config, metadata, table, units)
    return table


def _read_part(unit: WorkUnit) -> list[dict[str, Any]]:
    try:
        return json.loads(unit.path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged_output(unit, error) from None


def _publish_shards(
    config: GenerateConfig, metadata: GeneratorMetadata, table: pd.DataFrame, units: list[WorkUnit]
) -> None:
    """Write the manifest of the shards."""
    footers = map_concurrently(read_shard_footer, (config.out / unit.name for unit in units))
    shards = tuple(footer.info for footer in footers)
    kept = table[table["kept"]]
    manifest = ShardManifest(
        fingerprint=metadata.features.fingerprint,
        features=metadata.features,
        augment=AugmentConfig(copies=0),
        class_names=tuple(sorted(kept["label"].unique())),
        clips=len(kept),
        rows=len(kept),
        rejected=0,
        source={
            "generator": str(config.run),
            "clips_by_class": kept["label"].value_counts().sort_index().to_dict(),
        },
        shards=shards,
    )
    # By which training checks that the generator was not trained on clips that it validates.
    if (config.run / SPLIT_NAME).is_file():
        record = (config.run / SPLIT_NAME).read_bytes()
        write_atomically(config.out / GENERATOR_SPLIT_NAME, lambda file: file.write(record))
    write_manifest(config.out, manifest)


def _report_dropped(config: GenerateConfig, table: pd.DataFrame) -> None:
    """Log the classes without any clip that reached the minimum confidence.

    Raises:
        UserError: no clip did.
    """
    kept = table.groupby("label", sort=False)["kept"].sum()
    if kept.sum() == 0:
        raise UserError(
            f"0 of {len(table)} clips reached --min-confidence {config.min_confidence:g} in "
            f"{plural(max_attempts(config), 'attempt')} each: lower it (confidence of each clip: "
            f"{config.out / TABLE_NAME}), or train the GAN longer"
        )
    if empty := list(kept.index[kept == 0]):
        logger.warning(
            "no clip of class %s reached --min-confidence %g", name_list(empty), config.min_confidence
        )


def _print_result(config: GenerateConfig, table: pd.DataFrame) -> None:
    kept = table[table["kept"]]
    dropped = len(table) - len(kept)
    note = (
        f"; {plural(dropped, 'clip')} dropped (below --min-confidence {config.min_confidence:g})"
        if dropped
        else ""
    )
    classes = plural(kept["label"].nunique(), "class")
    print(f"{plural(len(kept), 'clip')} of {classes}{note}")
    if config.as_shards:
        print(f"shards: {config.out}", flush=True)
    else:
        print(f"sounds: {config.out}\ntable: {config.out / TABLE_NAME}", flush=True)

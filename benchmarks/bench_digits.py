"""Spoken digits of a speaker that was not trained on: the default classifier against MFCC and an SVM.

    apt install espeak-ng flite
    python -m benchmarks.bench_digits --out FOLDER [--recordings 8 --seeds 1 2 3 --variants NAME ...]

Six speakers are voices of two synthesizers, each with its own rates and pitches, levels and background noise.
Every speaker is left out once. melray gets the length of the clips and their sample rate, nothing else. No
clip of the speaker that is left out is trained on: the last epoch is scored. Runs take one core
each; a rerun continues.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import librosa
import numpy as np
import soundfile

from benchmarks.common import save_result, summarize, train_without_fold

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000
SECONDS = 1.0
SPEAK_TIMEOUT_S = 60
# Synthesizer, voice, and range of the pitch, if it can be set.
SPEAKERS: Mapping[str, tuple[str, str, tuple[int, int] | None]] = MappingProxyType(
    {
        "espeak_man": ("espeak-ng", "en-us+m3", (30, 60)),
        "espeak_woman": ("espeak-ng", "en-gb-x-rp+f2", (40, 70)),
        "flite_awb": ("flite", "awb", None),
        "flite_kal": ("flite", "kal16", (85, 130)),
        "flite_rms": ("flite", "rms", None),
        "flite_slt": ("flite", "slt", None),
    }
)
# Settings of melray that differ from the defaults.
VARIANTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "modulation spectrum": {"model": {"modulation": True}},
        "no modulation spectrum": {"model": {"modulation": False}},
        "texture statistics": {"model": {"texture": True}},
        "no texture statistics": {"model": {"texture": False}},
        "db+pcen": {"model": {"input": "db+pcen"}},
        "padded clips": {"model": {"padding": "silence"}},
        "no stretch": {"spec_augment": {"time_stretch": 0.0}},
        "noise": {"spec_augment": {"noise": 0.5}},
        "rooms and noise": {"spec_augment": {"reverb": 0.5, "noise": 0.5}},
        "no shift of bands": {"spec_augment": {"freq_shift": 0.0}},
        "mobilenet": {"model": {"arch": "mobilenet"}},
    }
)


class Run(NamedTuple):
    """One training run without one speaker."""

    variant: str
    speaker: str
    seed: int


def synthesize(folder: Path, recordings: int) -> None:
    """Write `<digit>/<fold>_<number>.wav` of all digits and speakers: one second at most, at 8 kHz."""
    for fold, speaker in enumerate(SPEAKERS, 1):
        random = np.random.default_rng(fold)
        for word in WORDS:
            for number in range(recordings):
                speed, pitch, level, snr_db = random.uniform((0.8, 0, 0.1, 20), (1.3, 1, 0.9, 40))
                path = folder / word / f"{fold}_{number:02d}.wav"
                samples = _speak(speaker, word, speed, pitch, path.with_suffix(".part"))
                power = float(np.mean(samples**2)) / 10 ** (snr_db / 10)
                samples = samples + random.normal(0.0, np.sqrt(power), samples.size)
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples / np.abs(samples).max() * level, RATE)


def _speak(speaker: str, word: str, speed: float, pitch: float, path: Path) -> np.ndarray:
    """Return a word as a speaker says it, without the silence around it; pitch from 0 to 1."""
    program, voice, pitches = SPEAKERS[speaker]
    value = None if pitches is None else round(pitches[0] + pitch * (pitches[1] - pitches[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    if program == "flite":
        options = ["-voice", voice, "--setf", f"duration_stretch={1 / speed:.2f}"]
        options += [] if value is None else ["--setf", f"int_f0_target_mean={value}"]
        command = [program, *options, "-t", word, "-o", str(path)]
    else:
        options = ["-v", voice, "-s", f"{160 * speed:.0f}", "-p", str(value)]
        command = [program, *options, "-w", str(path), word]
    subprocess.run(command, check=True, timeout=SPEAK_TIMEOUT_S)
    samples, rate = soundfile.read(path, dtype="float64")
    path.unlink()
    samples, _ = librosa.effects.trim(librosa.resample(samples, orig_sr=rate, target_sr=RATE), top_db=40)
    return samples[: int(SECONDS * RATE)]


def svm_features(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return two vectors of a clip: mean and standard deviation of MFCCs and slopes; MFCCs of 20 times."""
    samples, _ = librosa.load(path, sr=RATE)
    mfcc = librosa.feature.mfcc(y=samples, sr=RATE, n_mfcc=20, n_fft=256, hop_length=80, n_mels=40)
    slopes = librosa.feature.delta(mfcc, mode="nearest")
    both = np.concatenate([mfcc, slopes])
    times = np.linspace(0, mfcc.shape[1] - 1, 20)
    stretched = [np.interp(times, np.arange(mfcc.shape[1]), row) for row in mfcc]
    return np.concatenate([both.mean(axis=1), both.std(axis=1)]), np.concatenate(stretched)


def svm_accuracies(folder: Path) -> dict[str, dict[str, float]]:
    """Return the accuracy of an SVM on each speaker that it was not trained on, for both kinds of vectors."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    paths = sorted(folder.glob("*/*.wav"))
    labels = np.array([path.parent.name for path in paths])
    speakers = np.array([list(SPEAKERS)[_fold(path) - 1] for path in paths])
    result: dict[str, dict[str, float]] = {}
    features = [svm_features(path) for path in paths]
    for index, name in enumerate(("mean and deviation", "20 times")):
        vectors, result[name] = np.array([kinds[index] for kinds in features]), {}
        for speaker in SPEAKERS:
            is_out = speakers == speaker
            model = make_pipeline(StandardScaler(), SVC(C=10.0))
            model.fit(vectors[~is_out], labels[~is_out])
            result[name][speaker] = float(model.score(vectors[is_out], labels[is_out]))
    return result


def _fold(path: Path) -> int:
    """Return the fold of a file, which is a number for its speaker."""
    return int(path.name.partition("_")[0])


def extract_shards(folder: Path, out: Path) -> Path:
    """Extract all clips, each speaker a fold; return the dataset."""
    from pipeline.distributed.batch_job import run_in_process
    from pipeline.extract import ExtractConfig, extract

    config = ExtractConfig(
        data=folder,
        out=out,
        fold_pattern=r"^(\d+)_",
        features={"seconds": SECONDS, "mel": {"sample_rate": RATE}},
    )
    if not (out / "_manifest.json").is_file():
        extract(config, run_in_process)
    return out


def train_and_score(arguments: tuple[Run, Path]) -> tuple[Run, float]:
    """Train a classifier without a speaker; return its accuracy on that speaker."""
    run, out = arguments
    held_out = train_without_fold(
        shards=out / "shards",
        run=out / "runs" / f"{run.variant.replace(' ', '-')}_{run.speaker}_{run.seed}",
        fold=list(SPEAKERS).index(run.speaker) + 1,
        seed=run.seed,
        **VARIANTS[run.variant],
    )
    return run, float((held_out.probabilities().argmax(axis=1) == held_out.labels).mean())


def score_variants(
    options: argparse.Namespace, report: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """Return the accuracy of each variant on each speaker, for each seed."""
    runs = [
        Run(variant, speaker, seed)
        for variant in options.variants
        for seed in options.seeds
        for speaker in SPEAKERS
    ]
    scores: dict[Run, float] = {}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for run, accuracy in pool.imap_unordered(train_and_score, [(run, options.out) for run in runs]):
            scores[run] = accuracy
            report(f"{run.variant}, {run.speaker}, seed {run.seed}: {accuracy:.1%}")
    return {
        variant: {
            speaker: [scores[Run(variant, speaker, seed)] for seed in options.seeds] for speaker in SPEAKERS
        }
        for variant in options.variants
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recordings", type=int, default=8, help="recordings of each digit and speaker")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--result", default="digits", help="name of the result file")
    parser.add_argument("--variants", nargs="+", default=["default"], choices=list(VARIANTS))
    options = parser.parse_args()
    clips = options.out / "clips"
    if not clips.is_dir():
        synthesize(options.out / "unfinished", options.recordings)
        (options.out / "unfinished").rename(clips)
    extract_shards(clips, options.out / "shards")
    result: dict[str, Any] = {"recordings": options.recordings, "seeds": options.seeds}
    result["svm"] = svm_accuracies(clips)
    for name, accuracies in result["svm"].items():
        print(f"SVM, {name}: {np.mean(list(accuracies.values())):.1%} {json.dumps(accuracies)}", flush=True)
    for variant, per_speaker in score_variants(options, lambda line: print(line, flush=True)).items():
        means = np.mean(list(per_speaker.values()), axis=0)
        result[variant] = {"speakers": per_speaker, "mean_of_speakers": summarize(means.tolist())}
        print(f"{variant}: {means.mean():.1%}")
    save_result(options.result, result)


if __name__ == "__main__":
    main()

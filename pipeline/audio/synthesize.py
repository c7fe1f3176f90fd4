"""Labelled sounds from nothing: events that differ in their course over time, in varying rooms and noise.

Most classes come in pairs with one average spectrum (a chirp and the same chirp backwards), so a model that averages over
time can't tell them apart, and one that sees time can. Sounds are float32 arrays of shape `(num_samples,)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from pipeline.audio.augment import add_noise, add_reverb, row_rng

SECONDS = (2.0, 6.0)  # of a clip
LEVEL_DB = (-22.0, -1.0)  # peak of a clip, below full scale
REVERB_STRENGTH = (0.02, 0.4)  # of `add_reverb`: 0.13 to 0.66 s to decay
NOISE_STRENGTH = (
    0.3,
    1.3,
)  # of `add_noise`, stronger than for an augmentation: a signal-to-noise ratio of 30 to -5 dB
TAIL_SECONDS = 0.5  # room left for the reverb
# A minority of other formats, so that decoding has something to do.
RATES, RATE_CHANCES = (22_050, 16_000, 44_100), (0.8, 0.1, 0.1)
STEREO_CHANCE = 0.2

# Raised when the same arguments come to give other sounds: sets of before are then written anew.
SET_VERSION = 1
MARKER = "_complete.json"
BAR_PARTIALS = np.array([1.0, 2.756, 5.404, 8.933])  # a free bar's, to the lowest


def chirp_rising(rng: np.random.Generator, rate: int) -> np.ndarray:
    """One to three equal sweeps upwards, by two thirds of an octave to two octaves."""
    seconds, times = rng.uniform(0.35, 0.7), int(rng.integers(1, 4))
    place = np.linspace(0.0, 1.0, int(seconds * rate)) ** rng.uniform(0.7, 1.4)
    hertz = _log_uniform(rng, 400, 800) * 2.0 ** (rng.uniform(0.67, 2.0) * place)
    sweep = _faded(_harmonic(hertz, rate, (1.0, 0.3)), rate, 0.03)
    return np.tile(np.pad(sweep, (0, int(rng.uniform(0.08, 0.25) * rate))), times)


def chirp_falling(rng: np.random.Generator, rate: int) -> np.ndarray:
    """The same, backwards."""
    return chirp_rising(rng, rate)[::-1]


def ticks_accelerating(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Knocks that follow each other ever faster, like a ball that comes to rest."""
    return _at_onsets(_knock(rng, rate), _shrinking_gaps(rng), rng, rate)


def ticks_slowing(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Knocks that follow each other ever more slowly, like a wheel of fortune."""
    return _at_onsets(_knock(rng, rate), _shrinking_gaps(rng)[::-1], rng, rate)


def bell_struck(rng: np.random.Generator, rate: int) -> np.ndarray:
    """A metal bar struck once or twice: partials that start at once and die away, the high ones first."""
    time = np.arange(int(rng.uniform(0.8, 1.4) * rate)) / rate
    hertz = _log_uniform(rng, 250, 600) * BAR_PARTIALS * rng.uniform(0.97, 1.03, BAR_PARTIALS.size)
    decay = rng.uniform(0.2, 0.5) / np.sqrt(np.arange(1, hertz.size + 1))
    gains = rng.uniform(0.4, 1.0, hertz.size) * (hertz < 0.45 * rate)
    strike = sum(
        gain * _sine(np.full(time.size, f), rate) * np.exp(-time / tau).astype(np.float32)
        for gain, f, tau in zip(gains, hertz, decay, strict=True)
    )
    return np.tile(_faded(np.asarray(strike), rate, 0.004), int(rng.integers(1, 3)))


def bell_swelling(rng: np.random.Generator, rate: int) -> np.ndarray:
    """The same, backwards: it swells and breaks off."""
    return bell_struck(rng, rate)[::-1]


def siren(rng: np.random.Generator, rate: int) -> np.ndarray:
    """A tone that wails up and down about once a second."""
    return _wavering(rng, rate, rng.uniform(0.6, 1.3))


def trill(rng: np.random.Generator, rate: int) -> np.ndarray:
    """A tone that wavers over the same range several times a second."""
    return _wavering(rng, rate, rng.uniform(2.5, 5.0))


def engine(rng: np.random.Generator, rate: int) -> np.ndarray:
    """A motor that idles: a low buzz, throbbing a few times a second."""
    time = np.arange(int(rng.uniform(1.5, 2.8) * rate)) / rate
    wobble = 1.0 + rng.uniform(0.01, 0.04) * np.sin(2 * np.pi * (rng.uniform(0.5, 1.5) * time + rng.random()))
    harmonics = np.arange(1, 17)
    gains = rng.uniform(0.5, 1.0, harmonics.size) / harmonics ** rng.uniform(0.3, 0.8)
    buzz = _harmonic(_log_uniform(rng, 50, 100) * wobble, rate, gains)
    throb = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(5.0, 9.0) * time + rng.random()))
    return _faded(buzz * (0.15 + 0.85 * throb**2), rate, 0.1)


def water_drops(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Two to five drops at uneven distances: short blips whose pitch jumps up as they ring out."""
    time = np.arange(int(0.15 * rate)) / rate
    hertz = _log_uniform(rng, 700, 1400) * (
        1.0 + rng.uniform(0.6, 1.2) * np.minimum(time / rng.uniform(0.05, 0.1), 1.0)
    )
    drop = _faded(_sine(hertz, rate) * np.exp(-time / rng.uniform(0.025, 0.05)), rate, 0.004)
    return _at_onsets(drop, rng.uniform(0.15, 0.7, int(rng.integers(1, 5))), rng, rate)


EVENTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    event.__name__: event
    for event in (
        *(chirp_rising, chirp_falling, ticks_accelerating, ticks_slowing, bell_struck, bell_swelling),
        *(siren, trill, engine, water_drops),
    )
}
CLASS_NAMES: tuple[str, ...] = tuple(EVENTS)


def synthesize_event(name: str, rng: np.random.Generator, sample_rate: int = 22_050) -> np.ndarray:
    """One event of class `name`, without room or noise; a third of a second to three long; its peak is 1."""
    event = EVENTS[name](rng, sample_rate).astype(np.float32)
    return event / np.abs(event).max()


def synthesize_clip(name: str, rng: np.random.Generator, sample_rate: int = 22_050) -> np.ndarray:
    """An event anywhere in a clip of 2 to 6 s, at any level, in a room and in noise."""
    event = np.pad(synthesize_event(name, rng, sample_rate), (0, int(TAIL_SECONDS * sample_rate)))
    event = add_reverb(event, sample_rate, rng.uniform(*REVERB_STRENGTH), rng)
    clip = np.zeros(max(int(rng.uniform(*SECONDS) * sample_rate), event.size), np.float32)
    start = int(rng.integers(clip.size - event.size + 1))
    clip[start : start + event.size] = event
    clip = add_noise(clip, sample_rate, rng.uniform(*NOISE_STRENGTH), rng)
    return clip * np.float32(10 ** (rng.uniform(*LEVEL_DB) / 20) / np.abs(clip).max())


def write_sound_set(
    out: Path, *, train_per_class: int = 50, test_per_class: int = 12, seed: int = 42
) -> None:
    """Writes a labelled set for training and one without labels.

    `out/train/<class>/<class>_000.wav` and so on; `out/test/clip_000.wav` and so on in a random order, whose labels are
    in `out/test_labels.csv` (`id` is the name of the file). A clip depends on the seed, its class and its number only.
    A set that is complete already, with the same arguments, is left as it is.

    Args:
        out: folder, made when missing.
        train_per_class: clips of each class with labels.
        test_per_class: clips of each class without labels.
        seed: of all draws.
    """
    arguments = {
        "version": SET_VERSION,
        "train_per_class": train_per_class,
        "test_per_class": test_per_class,
        "seed": seed,
    }
    marker, text = out / MARKER, json.dumps(arguments | {"classes": CLASS_NAMES}, indent=1) + "\n"
    train = {
        out / "train" / name / f"{name}_{i:03d}.wav": (name, i)
        for name in CLASS_NAMES
        for i in range(train_per_class)
    }
    hidden = [(name, i) for name in CLASS_NAMES for i in range(test_per_class)]
    order = row_rng(seed, "test order", 0).permutation(len(hidden))
    test = {out / "test" / f"clip_{i:03d}.wav": hidden[place] for i, place in enumerate(order)}
    labels = out / "test_labels.csv"
    if (
        marker.is_file()
        and marker.read_text() == text
        and all(path.is_file() for path in (*train, *test, labels))
    ):
        return
    out.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    # Clips of an earlier, larger set would be taken for part of this one.
    for path in {*out.glob("train/*/*_[0-9]*.wav"), *out.glob("test/clip_[0-9]*.wav")} - {*train, *test}:
        path.unlink()
    for part in (train, test):
        for path, (name, number) in part.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_clip(path, name, row_rng(seed, f"{'train' if part is train else 'test'}/{name}", number))
    labels.write_text("id,label\n" + "".join(f"{path.name},{name}\n" for path, (name, _) in test.items()))
    marker.write_text(text)


def _write_clip(path: Path, name: str, rng: np.random.Generator) -> None:
    """A 16-bit WAV file of class `name`, at one of several rates, some in stereo."""
    rate, stereo = int(rng.choice(RATES, p=RATE_CHANCES)), rng.random() < STEREO_CHANCE
    gains = rng.uniform(0.5, 1.0, 2).astype(np.float32)
    clip = synthesize_clip(name, rng, rate)
    soundfile.write(path, clip[:, None] * gains if stereo else clip, rate, subtype="PCM_16")


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return low * (high / low) ** rng.random()


def _sine(hertz: np.ndarray, rate: int, multiple: int = 1) -> np.ndarray:
    """A sine with that frequency at each sample, or a whole multiple of it."""
    turns = np.cumsum(hertz * (multiple / rate))
    return np.sin(2 * np.pi * (turns - np.floor(turns)).astype(np.float32))


def _harmonic(hertz: np.ndarray, rate: int, gains: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """A tone with that fundamental at each sample, and harmonics with these gains."""
    return np.asarray(sum(np.float32(gain) * _sine(hertz, rate, k) for k, gain in enumerate(gains, 1)))


def _faded(samples: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """Fades both ends in and out, with half a cosine."""
    ramp = np.sin(np.linspace(0.0, np.pi / 2, int(seconds * rate), dtype=np.float32)) ** 2
    out = samples.astype(np.float32)
    out[: ramp.size] *= ramp
    out[out.size - ramp.size :] *= ramp[::-1]
    return out


def _wavering(rng: np.random.Generator, rate: int, per_second: float) -> np.ndarray:
    """A tone whose pitch swings a third to two thirds of an octave to both sides, `per_second` times a second."""
    time = np.arange(int(rng.uniform(1.7, 2.8) * rate)) / rate
    swing = np.sin(2 * np.pi * (per_second * time + rng.random()))
    hertz = _log_uniform(rng, 900, 1800) * 2.0 ** (rng.uniform(0.33, 0.67) * swing)
    return _faded(_harmonic(hertz, rate, (1.0, 0.5, 0.25)), rate, 0.08)


def _knock(rng: np.random.Generator, rate: int) -> np.ndarray:
    """A short dull or sharp knock: a burst of noise and two resonances."""
    time = np.arange(int(0.08 * rate)) / rate
    knock = 0.5 * rng.standard_normal(time.size) * np.exp(-time / 0.004)
    for _ in range(2):
        knock += np.sin(2 * np.pi * _log_uniform(rng, 1500, 5000) * time) * np.exp(
            -time / rng.uniform(0.006, 0.015)
        )
    return _faded(knock, rate, 0.001)


def _shrinking_gaps(rng: np.random.Generator) -> np.ndarray:
    """6 to 10 distances in seconds, from the longest to the shortest, each the same part of the one before."""
    return np.geomspace(rng.uniform(0.35, 0.5), rng.uniform(0.08, 0.15), int(rng.integers(6, 11)))


def _at_onsets(sound: np.ndarray, gaps: np.ndarray, rng: np.random.Generator, rate: int) -> np.ndarray:
    """The sound at the start and after each of the gaps (in seconds), with uneven loudness."""
    onsets = np.concatenate([[0], np.cumsum(gaps * rate)]).astype(int)
    out = np.zeros(onsets[-1] + sound.size, np.float32)
    for onset, gain in zip(onsets, rng.uniform(0.6, 1.0, onsets.size), strict=True):
        out[onset : onset + sound.size] += np.float32(gain) * sound
    return out

"""Synthetic sound events that differ in their temporal structure, with reverb and noise.

Most classes come in pairs with the same average spectrum (a chirp and its time reversal), so a model that
averages over time cannot distinguish them, and a model of the temporal structure can. Sounds are float32
arrays of shape `(num_samples,)`; frequencies are in Hz.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.audio.augment import add_noise, add_reverb

# Ranges that parameters are sampled from, uniformly.
CLIP_SECONDS = (2.0, 6.0)
PEAK_DB = (-22.0, -1.0)  # relative to full scale
REVERB_STRENGTH = (0.02, 0.4)  # of `add_reverb`: decay times of 0.13 to 0.66 s
NOISE_STRENGTH = (0.3, 1.3)  # of `add_noise`: signal-to-noise ratios of 30 to -5 dB
REVERB_TAIL_SECONDS = 0.5
BAR_PARTIALS = np.array([1.0, 2.756, 5.404, 8.933])  # of a free bar, relative to the lowest


def chirp_rising(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize one to three equal rising sweeps over 0.67 to 2 octaves."""
    seconds, repeats = rng.uniform(0.35, 0.7), int(rng.integers(1, 4))
    position = np.linspace(0.0, 1.0, int(seconds * rate)) ** rng.uniform(0.7, 1.4)
    frequency = _log_uniform(rng, 400, 800) * 2.0 ** (rng.uniform(0.67, 2.0) * position)
    sweep = _fade(_harmonic_tone(frequency, rate, (1.0, 0.3)), rate, 0.03)
    return np.tile(np.pad(sweep, (0, int(rng.uniform(0.08, 0.25) * rate))), repeats)


def chirp_falling(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize a time-reversed `chirp_rising`."""
    return chirp_rising(rng, rate)[::-1]


def ticks_accelerating(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize knocks at decreasing intervals, like a bouncing ball."""
    return _repeat_at(_knock(rng, rate), _decreasing_intervals(rng), rng, rate)


def ticks_slowing(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize knocks at increasing intervals, like a wheel of fortune."""
    return _repeat_at(_knock(rng, rate), _decreasing_intervals(rng)[::-1], rng, rate)


def bell_struck(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize a metal bar struck once or twice: decaying inharmonic partials, the high ones fastest."""
    time = np.arange(int(rng.uniform(0.8, 1.4) * rate)) / rate
    partials = _log_uniform(rng, 250, 600) * BAR_PARTIALS * rng.uniform(0.97, 1.03, BAR_PARTIALS.size)
    decay = rng.uniform(0.2, 0.5) / np.sqrt(np.arange(1, partials.size + 1))
    gains = rng.uniform(0.4, 1.0, partials.size) * (partials < 0.45 * rate)
    strike = sum(
        gain * _sine(np.full(time.size, frequency), rate) * np.exp(-time / tau).astype(np.float32)
        for gain, frequency, tau in zip(gains, partials, decay, strict=True)
    )
    return np.tile(_fade(np.asarray(strike), rate, 0.004), int(rng.integers(1, 3)))


def bell_swelling(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize a time-reversed `bell_struck`: it swells and stops abruptly."""
    return bell_struck(rng, rate)[::-1]


def siren(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize a tone whose pitch oscillates about once per second."""
    return _vibrato_tone(rng, rate, rng.uniform(0.6, 1.3))


def trill(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize a tone whose pitch oscillates over the same range as a siren, several times per second."""
    return _vibrato_tone(rng, rate, rng.uniform(2.5, 5.0))


def engine(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize an idling motor: a low buzz with amplitude modulation at 5 to 9 Hz."""
    time = np.arange(int(rng.uniform(1.5, 2.8) * rate)) / rate
    wobble = 1.0 + rng.uniform(0.01, 0.04) * np.sin(2 * np.pi * (rng.uniform(0.5, 1.5) * time + rng.random()))
    harmonics = np.arange(1, 17)
    gains = rng.uniform(0.5, 1.0, harmonics.size) / harmonics ** rng.uniform(0.3, 0.8)
    buzz = _harmonic_tone(_log_uniform(rng, 50, 100) * wobble, rate, gains)
    throb = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(5.0, 9.0) * time + rng.random()))
    return _fade(buzz * (0.15 + 0.85 * throb**2), rate, 0.1)


def water_drops(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize two to five drops at irregular intervals: short decaying tones of rising pitch."""
    time = np.arange(int(0.15 * rate)) / rate
    frequency = _log_uniform(rng, 700, 1400) * (
        1.0 + rng.uniform(0.6, 1.2) * np.minimum(time / rng.uniform(0.05, 0.1), 1.0)
    )
    drop = _fade(_sine(frequency, rate) * np.exp(-time / rng.uniform(0.025, 0.05)), rate, 0.004)
    return _repeat_at(drop, rng.uniform(0.15, 0.7, int(rng.integers(1, 5))), rng, rate)


EVENTS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    event.__name__: event
    for event in (
        *(chirp_rising, chirp_falling, ticks_accelerating, ticks_slowing, bell_struck, bell_swelling),
        *(siren, trill, engine, water_drops),
    )
}
CLASS_NAMES: tuple[str, ...] = tuple(EVENTS)


def synthesize_event(name: str, rng: np.random.Generator, sample_rate: int = 22_050) -> np.ndarray:
    """Synthesize an event of class `name`, 0.3 to 3.5 s long, without reverb and noise; its peak is 1."""
    event = EVENTS[name](rng, sample_rate).astype(np.float32)
    return event / np.abs(event).max()


def synthesize_clip(name: str, rng: np.random.Generator, sample_rate: int = 22_050) -> np.ndarray:
    """Synthesize a clip of 2 to 6 s: an event at a random position, with reverb, noise and a random level."""
    event = np.pad(synthesize_event(name, rng, sample_rate), (0, int(REVERB_TAIL_SECONDS * sample_rate)))
    event = add_reverb(event, sample_rate, rng.uniform(*REVERB_STRENGTH), rng)
    clip = np.zeros(max(int(rng.uniform(*CLIP_SECONDS) * sample_rate), event.size), np.float32)
    start = int(rng.integers(clip.size - event.size + 1))
    clip[start : start + event.size] = event
    clip = add_noise(clip, sample_rate, rng.uniform(*NOISE_STRENGTH), rng)
    return clip * np.float32(10 ** (rng.uniform(*PEAK_DB) / 20) / np.abs(clip).max())


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Sample log-uniformly between `low` and `high`."""
    return low * (high / low) ** rng.random()


def _sine(frequency: np.ndarray, rate: int, harmonic: int = 1) -> np.ndarray:
    """Synthesize a sine with `harmonic` times the given frequency at each sample."""
    cycles = np.cumsum(frequency * (harmonic / rate))
    return np.sin(2 * np.pi * (cycles - np.floor(cycles)).astype(np.float32))


def _harmonic_tone(fundamental: np.ndarray, rate: int, gains: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """Synthesize a tone with the given fundamental frequency at each sample and one gain per harmonic."""
    return np.asarray(sum(np.float32(gain) * _sine(fundamental, rate, k) for k, gain in enumerate(gains, 1)))


def _fade(samples: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    """Fade in and out with raised-cosine ramps."""
    ramp = np.sin(np.linspace(0.0, np.pi / 2, int(seconds * rate), dtype=np.float32)) ** 2
    out = samples.astype(np.float32)
    out[: ramp.size] *= ramp
    out[out.size - ramp.size :] *= ramp[::-1]
    return out


def _vibrato_tone(rng: np.random.Generator, rate: int, vibrato_hz: float) -> np.ndarray:
    """Synthesize a tone whose pitch oscillates by 0.33 to 0.67 octaves in both directions."""
    time = np.arange(int(rng.uniform(1.7, 2.8) * rate)) / rate
    vibrato = np.sin(2 * np.pi * (vibrato_hz * time + rng.random()))
    frequency = _log_uniform(rng, 900, 1800) * 2.0 ** (rng.uniform(0.33, 0.67) * vibrato)
    return _fade(_harmonic_tone(frequency, rate, (1.0, 0.5, 0.25)), rate, 0.08)


def _knock(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Synthesize a short knock: a noise burst and two decaying resonances."""
    time = np.arange(int(0.08 * rate)) / rate
    knock = 0.5 * rng.standard_normal(time.size) * np.exp(-time / 0.004)
    for _ in range(2):
        knock += np.sin(2 * np.pi * _log_uniform(rng, 1500, 5000) * time) * np.exp(
            -time / rng.uniform(0.006, 0.015)
        )
    return _fade(knock, rate, 0.001)


def _decreasing_intervals(rng: np.random.Generator) -> np.ndarray:
    """Sample 6 to 10 intervals in seconds that decrease geometrically."""
    return np.geomspace(rng.uniform(0.35, 0.5), rng.uniform(0.08, 0.15), int(rng.integers(6, 11)))


def _repeat_at(sound: np.ndarray, intervals: np.ndarray, rng: np.random.Generator, rate: int) -> np.ndarray:
    """Repeat a sound at the start and after each interval (in seconds), with random gains."""
    onsets = np.concatenate([[0], np.cumsum(intervals * rate)]).astype(int)
    out = np.zeros(onsets[-1] + sound.size, np.float32)
    for onset, gain in zip(onsets, rng.uniform(0.6, 1.0, onsets.size), strict=True):
        out[onset : onset + sound.size] += np.float32(gain) * sound
    return out

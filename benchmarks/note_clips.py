"""Notes of instruments as audio files, from the recorded samples of a General MIDI sound font.

Needs `apt install libfluidsynth3 fluid-soundfont-gm` and `pip install pyfluidsynth`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soundfile

RATE = 22_050
SECONDS = 2.0
# A note is held for so long, and then released.
HELD_SECONDS = 1.5
# Beyond the range of an instrument the font has no samples, and the synthesizer's dither is what remains.
MIN_PEAK = 1e-3
FONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
GAIN = 1.0
# General MIDI program, lowest and highest pitch as MIDI numbers.
ORCHESTRA: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "violin": (40, 55, 96),
        "viola": (41, 48, 84),
        "cello": (42, 36, 76),
        "contrabass": (43, 28, 60),
        "harp": (46, 28, 96),
        "trumpet": (56, 54, 84),
        "trombone": (57, 40, 72),
        "tuba": (58, 28, 58),
        "horn": (60, 35, 77),
        "saxophone": (65, 49, 80),
        "oboe": (68, 58, 91),
        "english_horn": (69, 52, 81),
        "bassoon": (70, 34, 72),
        "clarinet": (71, 50, 91),
        "flute": (73, 60, 96),
    }
)


def write_notes(
    folder: Path,
    instruments: Mapping[str, tuple[int, Sequence[int]]],
    velocities: Sequence[int],
    font: Path = FONT,
) -> Path:
    """Write `<instrument>/<pitch>_<velocity>.wav` of all instruments; return the folder.

    Args:
        folder: is complete if it exists.
        instruments: General MIDI program from 0 to 127 and pitches as MIDI numbers, by name.
        velocities: how hard a note is played, from 1 to 127.
        font: SoundFont 2 file.
    """
    import fluidsynth

    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    synth = fluidsynth.Synth(gain=GAIN, samplerate=float(RATE))
    loaded = synth.sfload(str(font))
    if loaded < 0:
        raise SystemExit(f"{font} cannot be read; apt install fluid-soundfont-gm")
    for name, (program, pitches) in instruments.items():
        synth.program_select(0, loaded, 0, program)
        (unfinished / name).mkdir(parents=True, exist_ok=True)
        for pitch in pitches:
            for velocity in velocities:
                samples = _play(synth, pitch, velocity)
                if np.abs(samples).max() > MIN_PEAK:
                    soundfile.write(unfinished / name / f"{pitch:03d}_{velocity:03d}.wav", samples, RATE)
    unfinished.rename(folder)
    return folder


def _play(synth: object, pitch: int, velocity: int) -> np.ndarray:
    """Return one note, mono, from -1 to 1; what sounded before it is cut off."""
    synth.all_sounds_off(0)
    synth.noteon(0, pitch, velocity)
    held = synth.get_samples(round(HELD_SECONDS * RATE))
    synth.noteoff(0, pitch)
    released = synth.get_samples(round((SECONDS - HELD_SECONDS) * RATE))
    stereo = np.concatenate([held, released]).reshape(-1, 2)
    return stereo.mean(axis=1) / 2**15

"""A replica of a generator: loads the model once, and generates a clip at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from cluster.serving.clip_media import mel_png
from cluster.serving.messages import Rejection, ServedClip
from pipeline.audio.waveform import encode_wav
from pipeline.distributed.devices import Device
from pipeline.gan.sound_generator import SoundGenerator
from pipeline.io.errors import UserError


@dataclass(frozen=True)
class GeneratorSettings:
    """Settings of the replicas of a generator."""

    device: Device = "cpu"


class GeneratorReplica:
    """Generates clips."""

    def __init__(self, run: Path, settings: GeneratorSettings):
        """Load the model.

        Raises:
            UserError: as `SoundGenerator`.
        """
        self._generator = SoundGenerator(run, settings.device)
        self._lock = asyncio.Lock()

    async def generate(self, label: str, seed: int) -> ServedClip | Rejection:
        """Generate the clip of a class and a seed, or return why that is impossible."""
        async with self._lock:
            try:
                return await asyncio.to_thread(self._generate, label, seed)
            except UserError as error:
                return Rejection(422, str(error))

    def _generate(self, label: str, seed: int) -> ServedClip:
        clip = self._generator.generate(label, seed)
        wav = encode_wav(clip.samples, clip.sample_rate)
        return ServedClip(wav, mel_png(clip.mel), clip.predicted_label, clip.confidence)

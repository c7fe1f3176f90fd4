"""A trained generator that makes clips in this process: for notebooks, pages and servers.

`melray generate` makes thousands of files on a cluster. On a CPU both make the same clip of a seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.audio.mel import MelConfig
from pipeline.audio.vocoder import Vocoder
from pipeline.audio.waveform import write_wav
from pipeline.data.clips import normalize_id, shown_list
from pipeline.distributed.devices import Device, process_device
from pipeline.gan.reference_classifier import embed_and_classify, load_selection_classifier
from pipeline.gan.sampling import generate_mels, latents_from_seeds, mels_to_samples, one_thread
from pipeline.io.arguments import check_integer, shown_value
from pipeline.io.errors import UserError, errors_without_flags, report_os_errors
from pipeline.io.storage import user_path
from pipeline.training.loaded_model import LoadedModel
from pipeline.training.model_file import GeneratorMetadata, load_generator


@dataclass(frozen=True, repr=False)
class GeneratedClip:
    """A generated clip. A notebook shows it with spectrogram and player."""

    label: str
    """Requested class."""
    seed: int
    samples: np.ndarray
    """float32 in [-1, 1] `[shape=(num_samples,)]`."""
    sample_rate: int
    """In Hz."""
    mel: np.ndarray
    """Spectrogram that the audio was made from, in dB, float32 `[shape=(n_mels, num_frames)]`."""
    predicted_label: str = ""
    """Class that the run's reference classifier predicts; empty without one."""
    confidence: float = float("nan")
    """Its probability of the requested class; NaN without one."""
    mel_config: MelConfig = MelConfig()
    """Settings of the spectrogram."""

    def save(self, path: str | Path) -> None:
        """Write the clip as a 16-bit WAV file, to a path or URI.

        Raises:
            UserError: it cannot be written.
            ValueError: a name that ends as another format.
        """
        file = user_path(path)
        if file.suffix.lower() not in ("", ".wav"):
            raise ValueError(f"path {str(path)!r}: clips are written as WAV files; end its name with .wav")
        with report_os_errors("writing to", path):
            write_wav(file, self.samples, self.sample_rate)

    def __repr__(self) -> str:
        seconds = f"{len(self.samples) / self.sample_rate:g} s"
        return f"<GeneratedClip of {self.label}, seed {self.seed}: {seconds}{self._prediction}>"

    @property
    def _prediction(self) -> str:
        if not self.predicted_label:
            return ""
        return f", predicted as {self.predicted_label} (p({self.label}) = {self.confidence:.1%})"

    def _repr_html_(self) -> str:
        from pipeline.report.notebook import clip_html

        title = f"{self.label}, seed {self.seed}{self._prediction}"
        return clip_html(title, self.mel, self.mel_config, self.samples)


class SoundGenerator(LoadedModel[GeneratorMetadata]):
    """A trained generator of `melray train-gan`."""

    def __init__(self, run: str | Path, device: Device = "auto", iterations: int = 32):
        """Load the generator of a run, and the reference classifier that selected its epoch if there is one.

        Args:
            run: folder of the run, or its URI.
            device: auto is a GPU if there is one; cpu; or cuda, a GPU.
            iterations: Griffin-Lim iterations of the vocoder.

        Raises:
            UserError: an unusable run, or `cuda` without a GPU.
        """
        run = user_path(run)
        with errors_without_flags():
            self._device = process_device(device)
            saved = load_generator(run)
        super().__init__(run, saved.metadata)
        self._model = saved.model.to(self._device)
        self._classifier = load_selection_classifier(run)
        if self._classifier is not None:
            self._classifier.model.to(self._device)
        self._vocoder = Vocoder(self.metadata.features.mel, iterations, self._device)

    def generate(self, label: str, seed: int = 0, *, normalize: bool = True) -> GeneratedClip:
        """Generate the clip of a class and a seed.

        Quiet clips are amplified to -26 dB RMS, unless `normalize` is False: then they have the level of the
        recordings of their class.

        Example:
            >>> clip = generator.generate("dog", seed=1)
            >>> clip.save("dog_1.wav")

        Raises:
            UserError: an unknown class, or a negative seed.
            ValueError: a seed that is no whole number.
        """
        return self.generate_many(label, [seed], normalize=normalize)[0]

    def generate_many(
        self, label: str, seeds: Iterable[int], *, normalize: bool = True
    ) -> list[GeneratedClip]:
        """Generate a clip of a class for each seed, as `generate`; each is independent of the others.

        Raises:
            UserError: as `generate`.
            ValueError: seeds that are no whole numbers.
        """
        if not isinstance(seeds, Iterable):
            raise ValueError(f"seeds {shown_value(seeds)}: expected a list of whole numbers")
        seeds = [check_integer("seed", seed) for seed in seeds]
        label = normalize_id(str(label))
        if label not in self.class_names:
            available = shown_list(self.class_names, 20)
            raise UserError(f"label '{label}': unknown class; available: {available}")
        if any(seed < 0 for seed in seeds):
            raise UserError(f"seed {min(seeds)}: must be 0 or more")
        if not seeds:
            return []
        labels = np.full(len(seeds), self.class_names.index(label))
        features = self.metadata.features
        with one_thread(self._device):
            mels = generate_mels(self._model, latents_from_seeds(self._model, seeds), labels, features.mel)
            samples = mels_to_samples(mels, features, self._vocoder, seeds, normalize)
            predicted, confidence = self._classify(mels, labels)
        return [
            GeneratedClip(
                label,
                seed,
                samples[i],
                self.sample_rate,
                mels[i],
                predicted[i],
                confidence[i],
                features.mel,
            )
            for i, seed in enumerate(seeds)
        ]

    def _classify(self, mels: np.ndarray, labels: np.ndarray) -> tuple[list[str], list[float]]:
        if self._classifier is None:
            return [""] * len(mels), [float("nan")] * len(mels)
        # One at a time on a CPU, so that the result for a clip does not depend on the others.
        batch_size = 1 if self._device.type == "cpu" else None
        classified = embed_and_classify(self._classifier, mels, labels, batch_size)
        return [self.class_names[i] for i in classified.predictions], classified.confidence.tolist()

"""A trained classifier that is ready for audio: files, samples, and all windows of long recordings.

For notebooks, pages and servers, which classify some sounds in one process; `melray predict` classifies
thousands of files on a cluster. Both have the same probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.audio.decode import OnWarning, ignore_warning
from pipeline.audio.feature_defaults import MUCH_LONGER
from pipeline.audio.features import ClipSource, spectrogram, split_windows
from pipeline.audio.recordings import read_recording
from pipeline.audio.sound_arguments import check_mels, check_source, is_samples, note_source, source_name
from pipeline.audio.sound_samples import prepare_samples, read_file, read_sound
from pipeline.audio.waveform import fix_length
from pipeline.classifier.file_table import (
    ReadClip,
    file_table,
    list_sources,
    mean_outputs,
    read_files,
)
from pipeline.classifier.inference import predict_outputs
from pipeline.classifier.outputs import Outputs
from pipeline.classifier.prediction.tables import predicted_labels
from pipeline.classifier.predictor_model import load_predictor
from pipeline.classifier.sound_results import Prediction, WindowProbabilities
from pipeline.classifier.windows.scan import CHUNK_WINDOWS, scan_windows
from pipeline.data.labels import split_labels
from pipeline.data.loader import batch_slices
from pipeline.data.windows import MIN_HOP, window_starts
from pipeline.distributed.devices import Device, process_device
from pipeline.io.arguments import check_integer, check_number
from pipeline.io.console import Progress
from pipeline.io.errors import errors_without_flags
from pipeline.io.storage import user_path
from pipeline.training.loaded_model import LoadedModel
from pipeline.training.model_file import ClassifierMetadata
from pipeline.training.optim import Precision


class SoundClassifier(LoadedModel[ClassifierMetadata]):
    """A trained classifier, an ensemble, or the models of a cross-validation, which then predict together."""

    def __init__(
        self,
        run: str | Path,
        device: Device = "auto",
        tta_shifts: int = 1,
        precision: Precision = "fp32",
    ):
        """Load the model of a run.

        Args:
            run: folder of the run, or its URI.
            device: auto is a GPU if there is one; cpu; or cuda, a GPU.
            tta_shifts: circular time shifts to average over (test-time augmentation); 1 is none.
            precision: numeric precision of the network.

        Raises:
            UserError: an unusable run, or `cuda` without a GPU.
        """
        run = user_path(run)
        with errors_without_flags():
            self._device = process_device(device)
            predictor = load_predictor(run)
        super().__init__(run, predictor.metadata)
        self._model = predictor.model.to(self._device)
        self._tta_shifts, self._precision = tta_shifts, precision

    @property
    def multi_label(self) -> bool:
        """Whether a clip has any number of classes, so that each has a probability of its own."""
        return self.metadata.multi_label

    @property
    def embedding_dim(self) -> int:
        """Size of an embedding; of several models that predict together, the sum of theirs."""
        return self._model.embedding_dim

    def classify(
        self, source: ClipSource, windows: int = 1, on_warning: OnWarning = ignore_warning
    ) -> np.ndarray:
        """Return the probability of each class for an audio file as a whole, float32 `[shape=(C,)]`.

        Args:
            source: path or URI of an audio file, or its content as bytes.
            windows: average over up to this many windows of a longer file, at least 1, which is its center.
            on_warning: called with each reason why the samples may not be what they should be.

        Raises:
            AudioDecodeError: the file has no usable audio.
            UserError: its object store cannot be reached.
        """
        windows = check_integer("windows", windows, 1)
        return self._classify_samples(read_file(source, self.features, on_warning), windows)

    def classify_samples(self, samples: np.ndarray, sample_rate: float, windows: int = 1) -> np.ndarray:
        """Return the probability of each class for samples, float32 `[shape=(C,)]`.

        Args:
            samples: mono, full scale is 1 `[shape=(num_samples,)]`.
            sample_rate: their rate in Hz.
            windows: as for `classify`.

        Raises:
            ValueError: no samples, several channels, or values that are not finite.
        """
        windows = check_integer("windows", windows, 1)
        return self._classify_samples(prepare_samples(samples, sample_rate, self.features), windows)

    def predict(
        self, sound: ClipSource | np.ndarray, sample_rate: float | None = None, windows: int = 1
    ) -> Prediction:
        """Return the classes of a sound together with its spectrogram, to look at and listen to.

        Example:
            >>> classifier.predict("dog.flac")
            <Prediction of dog.flac: dog 97.1%, rooster 1.0%, baby 0.6%>

        Args:
            sound: path or URI of an audio file, its content as bytes, or mono samples
                `[shape=(num_samples,)]`.
            sample_rate: rate of samples in Hz; not for a file, which has its own.
            windows: as for `classify`.

        Raises:
            AudioDecodeError: the file has no usable audio.
            UserError: its object store cannot be reached.
            ValueError: samples without a rate, of several channels, or values that are not finite;
                a file with a rate.
        """
        warnings: list[str] = []
        windows = check_integer("windows", windows, 1)
        samples = read_sound(sound, sample_rate, self.features, warnings.append)
        length = len(samples) / self.sample_rate
        if windows == 1 and length > MUCH_LONGER * self.seconds:
            part = f"only the central {self.seconds:g} s of {length:.3g} s are classified"
            warnings.append(f"{part}: use classify_windows() for all of it, or windows=N")
        probabilities = self._classify_samples(samples, windows)
        label = predicted_labels(probabilities[None], self.class_names, self._label_thresholds)[0]
        center = fix_length(samples, self.features.num_samples)
        return Prediction(
            "" if is_samples(sound) else source_name(check_source(sound)),
            self.class_names,
            probabilities,
            tuple(split_labels(label)) if self.multi_label else (label,),
            spectrogram(center, self.features),
            center,
            self.features.mel,
            tuple(warnings),
        )

    def embed(
        self, sound: ClipSource | np.ndarray, sample_rate: float | None = None, windows: int = 1
    ) -> np.ndarray:
        """Return the clip embedding of a sound, float32 `[shape=(embedding_dim,)]`.

        It is what the classes are computed from, the embedding of the network and texture statistics: similar
        sounds have similar ones. Those of several models that predict together come one after the other. It
        has length 1; a mean over windows or time shifts is shorter.

        Example:
            >>> a, b = classifier.embed("dog_1.wav"), classifier.embed("dog_2.wav")
            >>> a @ b  # cosine similarity

        Args:
            sound: as for `predict`.
            sample_rate: as for `predict`.
            windows: as for `classify`.

        Raises:
            AudioDecodeError: the file has no usable audio.
            UserError: its object store cannot be reached.
            ValueError: as `predict`.
        """
        windows = check_integer("windows", windows, 1)
        samples = read_sound(sound, sample_rate, self.features)
        mean: np.ndarray = self.embed_mels(self._window_mels(samples, windows)).mean(0)
        return mean

    def embed_mels(self, mels: np.ndarray) -> np.ndarray:
        """Return the embeddings of spectrograms in dB, as `classify_mels`.

        Returns:
            float32 `[shape=(N, embedding_dim)]`.
        """
        embeddings = self.outputs_of_mels(mels, with_embeddings=True).embeddings
        assert embeddings is not None
        return embeddings

    def classify_many(
        self,
        sources: str | Path | Iterable[ClipSource],
        windows: int = 1,
        show_progress: bool = False,
        embeddings: bool = False,
    ) -> pd.DataFrame:
        """Classify many audio files; one that cannot be read is a row with the reason.

        Example:
            >>> table = classifier.classify_many("recordings/")
            >>> table[["file", "label", "probability"]]

        Args:
            sources: paths or URIs, or a folder, which is searched recursively.
            windows: as for `classify`.
            show_progress: whether to show progress, rate and time left on standard error.
            embeddings: whether to add a column `embedding`, as of `embed`.

        Returns:
            A row per file, in order: `file`; `label`, the most probable class, or of a multi-label model all
            classes above their thresholds, joined by `;`; `probability`, the highest; `error`, empty for
            files that were read; and the probability of each class as `p:<class>`, NaN for others. The
            embedding of a file that cannot be read is None.

        Raises:
            UserError: no audio in the folder, or an object store that cannot be reached.
        """
        windows = check_integer("windows", windows, 1)
        files = list_sources(sources)
        clips: list[ReadClip] = []
        predict = partial(self.outputs_of_mels, with_embeddings=embeddings)
        parts = [mean_outputs([], predict, self.features.shape)]
        outcomes = read_files(files, self.features, windows)
        with closing(outcomes), _progress(len(files), "files", show_progress) as add:
            for chunk in batch_slices(len(files), max(1, CHUNK_WINDOWS // windows)):
                read = [next(outcomes) for _ in files[chunk]]
                parts.append(mean_outputs(read, predict, self.features.shape))
                clips += [clip._replace(mels=[]) for clip in read]
                add(len(read))
        return file_table(clips, Outputs.join(parts), self.class_names, self._label_thresholds)

    @property
    def _label_thresholds(self) -> list[float] | None:
        """Probability from which on each class of a multi-label model is present; None for other models."""
        thresholds: list[float] = self.metadata.class_thresholds().tolist()
        return thresholds if self.multi_label else None

    def _classify_samples(self, samples: np.ndarray, windows: int) -> np.ndarray:
        mean: np.ndarray = self.classify_mels(self._window_mels(samples, windows)).mean(0)
        return mean

    def _window_mels(self, samples: np.ndarray, windows: int) -> np.ndarray:
        """Return the spectrograms of up to `windows` windows `[shape=(N, n_mels, num_frames)]`."""
        parts = split_windows(samples, self.features, windows)
        return np.stack([spectrogram(part, self.features) for part in parts])

    def classify_mels(self, mels: np.ndarray) -> np.ndarray:
        """Return the probabilities of spectrograms in dB `[shape=(N, n_mels, num_frames)]`.

        Returns:
            float32 `[shape=(N, C)]`.

        Raises:
            ValueError: another shape than that of the model's spectrograms, or values that are not finite, in
                them or in what the network returns.
        """
        return self.outputs_of_mels(mels).probabilities

    def outputs_of_mels(self, mels: np.ndarray, with_embeddings: bool = False) -> Outputs:
        """Return the probabilities of spectrograms, and their embeddings if requested, as `classify_mels`."""
        mels = check_mels(mels, self.features)
        outputs = predict_outputs(
            self._model, mels, self._tta_shifts, self._precision, self._device, with_embeddings
        )
        outputs.check_finite(mels)
        return outputs

    def classify_windows(
        self,
        source: ClipSource,
        hop: float | None = None,
        threshold: float | None = None,
        on_warning: OnWarning = ignore_warning,
        show_progress: bool = False,
        embeddings: bool = False,
    ) -> WindowProbabilities:
        """Return the probabilities of all windows of a recording of any length, which is read in pieces.

        Args:
            source: path or URI of the recording, or its content as bytes.
            hop: seconds between the starts of windows, which have the model's clip length; at most that
                (default: half of it).
            threshold: probability from which on a class is an event (default: those of the model, or 0.5).
            on_warning: as for `classify`.
            show_progress: whether to show progress, rate and time left on standard error.
            embeddings: whether the result has the embedding of each window.

        Raises:
            AudioDecodeError: nothing of the recording can be read.
            UserError: its object store cannot be reached.
            ValueError: a hop that is shorter than `MIN_HOP` or longer than the windows; a threshold outside
                of [0, 1].
        """
        source = check_source(source)
        # A longer one would leave gaps between the windows, whose events would span them.
        hop = check_number("hop", self.seconds / 2 if hop is None else hop, MIN_HOP, self.seconds, "s")
        if threshold is not None:
            threshold = check_number("threshold", threshold, 0, 1)
        with note_source(source):
            recording = read_recording(source)
        starts = window_starts(recording.seconds, self.seconds, hop)
        predict = partial(self.outputs_of_mels, with_embeddings=embeddings)
        with note_source(source), _progress(len(starts), "windows", show_progress) as add:
            outputs = scan_windows(source, starts, self.features, predict, on_warning, add)
        return WindowProbabilities(
            recording,
            self.seconds,
            hop,
            self.class_names,
            outputs.probabilities,
            self.metadata.class_thresholds(threshold),
            outputs.embeddings,
        )


@contextmanager
def _progress(total: int, unit: str, is_shown: bool) -> Iterator[Callable[[int], None]]:
    """Show progress if wanted; yield a function that adds units that are done."""
    if not is_shown:
        yield lambda count: None
        return
    with Progress("classifying", total, unit) as progress:
        yield progress.add
        progress.finish()

"""melray for programs and notebooks: use trained models, and read datasets, runs and searches.

Models are trained by the command line (`melray --help`); this module reads what it has written. Paths may be
URIs of object stores (`s3://…`, `gs://…`, `az://…`). Nothing here starts Ray or prints anything.

    use a model       load_classifier → SoundClassifier, load_generator → SoundGenerator
    read a dataset    open_dataset → SoundDataset: table, spectrograms, labels, split, PyTorch dataset
    read results      read_run → Run: settings, metrics of each epoch; read_search → table of trials
    sounds as arrays  load_audio, spectrogram, loudness, normalize_loudness
    sounds to try     synthesize_sounds
    messages          set_log_level
    settings          FeatureConfig, MelConfig, SpecAugmentConfig
    errors            UserError, AudioDecodeError, ConfigError

Example:
    >>> import melray
    >>> classifier = melray.load_classifier("runs/first")
    >>> classifier.predict("dog.flac")                        # shown with spectrogram and player
    <Prediction of dog.flac: dog 97.1%, rooster 1.0%, baby 0.6%>
    >>> table = classifier.classify_many("recordings/")       # pandas: file, label, probability, …
    >>> windows = classifier.classify_windows("forest.flac")  # a recording of any length
    >>> windows.table.plot(), windows.event_table
    >>> dataset = melray.open_dataset("shards")
    >>> mels, labels = dataset.arrays("train")                # numpy; dataset.torch("train") for PyTorch
    >>> melray.read_run("runs/first").history["val_loss"].plot()

docs/python.md describes all functions, and what stays stable.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from models.config import ConfigError as ConfigError
    from models.settings import SpecAugmentConfig as SpecAugmentConfig
    from pipeline.audio.decode import AudioDecodeError as AudioDecodeError
    from pipeline.audio.features import FeatureConfig as FeatureConfig
    from pipeline.audio.mel import MelConfig as MelConfig
    from pipeline.audio.sounds import load_audio as load_audio
    from pipeline.audio.sounds import loudness as loudness
    from pipeline.audio.sounds import normalize_loudness as normalize_loudness
    from pipeline.audio.sounds import spectrogram as spectrogram
    from pipeline.audio.synthetic_dataset import write_dataset as synthesize_sounds
    from pipeline.classifier.sound_classifier import SoundClassifier as SoundClassifier
    from pipeline.classifier.sound_results import DetectedEvent as DetectedEvent
    from pipeline.classifier.sound_results import Prediction as Prediction
    from pipeline.classifier.sound_results import WindowProbabilities as WindowProbabilities
    from pipeline.data.sound_dataset import SoundDataset as SoundDataset
    from pipeline.data.sound_dataset import open_sound_dataset as open_dataset
    from pipeline.distributed.devices import Device
    from pipeline.gan.sound_generator import GeneratedClip as GeneratedClip
    from pipeline.gan.sound_generator import SoundGenerator as SoundGenerator
    from pipeline.io.console import setup_logging as set_log_level
    from pipeline.io.errors import UserError as UserError
    from pipeline.training.finished_run import Run as Run
    from pipeline.training.finished_run import read_run as read_run
    from tune.trials_table import read_search as read_search

__all__ = [
    "AudioDecodeError",
    "ConfigError",
    "DetectedEvent",
    "FeatureConfig",
    "GeneratedClip",
    "MelConfig",
    "Prediction",
    "Run",
    "SoundClassifier",
    "SoundDataset",
    "SoundGenerator",
    "SpecAugmentConfig",
    "UserError",
    "WindowProbabilities",
    "load_audio",
    "load_classifier",
    "load_generator",
    "loudness",
    "normalize_loudness",
    "open_dataset",
    "read_run",
    "read_search",
    "set_log_level",
    "spectrogram",
    "synthesize_sounds",
]

# Module of each name that is imported when it is first used: torch takes seconds.
_MODULES = {
    "AudioDecodeError": "pipeline.audio.decode",
    "ConfigError": "models.config",
    "DetectedEvent": "pipeline.classifier.sound_results",
    "FeatureConfig": "pipeline.audio.features",
    "GeneratedClip": "pipeline.gan.sound_generator",
    "MelConfig": "pipeline.audio.mel",
    "Prediction": "pipeline.classifier.sound_results",
    "Run": "pipeline.training.finished_run",
    "SoundClassifier": "pipeline.classifier.sound_classifier",
    "SoundDataset": "pipeline.data.sound_dataset",
    "SoundGenerator": "pipeline.gan.sound_generator",
    "SpecAugmentConfig": "models.settings",
    "UserError": "pipeline.io.errors",
    "WindowProbabilities": "pipeline.classifier.sound_results",
    "load_audio": "pipeline.audio.sounds",
    "loudness": "pipeline.audio.sounds",
    "normalize_loudness": "pipeline.audio.sounds",
    "open_dataset": "pipeline.data.sound_dataset",
    "read_run": "pipeline.training.finished_run",
    "read_search": "tune.trials_table",
    "set_log_level": "pipeline.io.console",
    "spectrogram": "pipeline.audio.sounds",
    "synthesize_sounds": "pipeline.audio.synthetic_dataset",
}
# Names that are others in their modules.
_ORIGINAL_NAMES = {
    "open_dataset": "open_sound_dataset",
    "set_log_level": "setup_logging",
    "synthesize_sounds": "write_dataset",
}


def load_classifier(run: str | Path, device: Device = "auto") -> SoundClassifier:
    """Load the classifier of a run, an ensemble, or the models of a cross-validation, which predict together.

    Example:
        >>> classifier = melray.load_classifier("s3://bucket/runs/first")
        >>> classifier.predict("dog.flac").label
        'dog'

    Args:
        run: folder of the run, or its URI.
        device: auto is a GPU if there is one; cpu; or cuda, a GPU.

    Raises:
        UserError: an unusable run, or `cuda` without a GPU.
    """
    from pipeline.classifier.sound_classifier import SoundClassifier

    return SoundClassifier(run, device)


def load_generator(run: str | Path, device: Device = "auto") -> SoundGenerator:
    """Load the generator of a run of `melray train-gan`.

    Example:
        >>> generator = melray.load_generator("runs/gan")
        >>> generator.generate("dog", seed=1).save("dog_1.wav")

    Args:
        run: folder of the run, or its URI.
        device: auto is a GPU if there is one; cpu; or cuda, a GPU.

    Raises:
        UserError: an unusable run, or `cuda` without a GPU.
    """
    from pipeline.gan.sound_generator import SoundGenerator

    return SoundGenerator(run, device)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'melray' has no attribute '{name}'")
    value = getattr(import_module(_MODULES[name]), _ORIGINAL_NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

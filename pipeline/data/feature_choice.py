"""Spectrogram settings of a dataset: those of the user, completed from the clips."""

from __future__ import annotations

from functools import cache

from pipeline.audio.clip_formats import read_formats
from pipeline.audio.feature_defaults import (
    complete_settings,
    describe_choice,
    describe_cropping,
    resolve_features,
)
from pipeline.audio.feature_settings import FeatureSettings
from pipeline.audio.features import FeatureConfig
from pipeline.data.manifest import Manifest
from pipeline.data.shard_manifest import ShardManifest
from pipeline.io.console import logger


def choose_features(
    settings: FeatureSettings, manifest: Manifest, existing: ShardManifest | None
) -> FeatureConfig:
    """Return all spectrogram settings: those that are left out are chosen from the clips.

    An update of an existing dataset, also after clips were added, uses those of the dataset.
    """
    if existing is not None:
        return complete_settings(settings, existing.features)
    formats = manifest.formats
    sample = cache(lambda: read_formats(manifest.clips) if formats is None else formats)
    features = resolve_features(settings, sample)
    if choice := describe_choice(settings, features):
        logger.info("spectrograms: %s, chosen from the clips; set them by --features.*", choice)
    if settings.seconds is None and (cropping := describe_cropping(sample(), features.seconds)):
        advice = (
            f"--window {features.seconds:g} cuts recordings into clips, --features.seconds sets the length"
        )
        logger.warning("%s; %s", cropping, advice)
    return features

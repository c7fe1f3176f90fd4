"""Sampled augmentation as the tensors that a training step gets."""

from __future__ import annotations

import torch

from models.augmentation_params import AugmentationTensors, BatchAugmentation


def to_tensors(params: BatchAugmentation, n_mels: int, num_frames: int) -> AugmentationTensors:
    """Return the parameters for spectrograms of a size."""
    arrays = params.arrays(n_mels, num_frames)
    return AugmentationTensors.select({name: torch.from_numpy(values) for name, values in arrays.items()})

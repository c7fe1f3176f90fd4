"""Repetition of short clips: their sound fills the spectrogram instead of zero padding.

A network that averages over time would otherwise average over silence, and see sounds of equal kind but
different length as different. Shards keep the padding: a generator must learn it.

Shape suffixes: B batch, M mel bands, T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Frames are padding if all their bands are within this many dB of the minimum of their clip: padding has it
# exactly in real clips, and nearly in generated ones. Bands of a recording differ by more at any time.
TOLERANCE_DB = 3.0
# A shorter sound is repeated with silence: at least this part of a clip is one repetition.
MIN_PERIOD = 1 / 8


def sounding_frames(mel_BMT: Tensor) -> Tensor:
    """Return the number of frames before the zero padding of each clip, at least an eighth of all.

    Args:
        mel_BMT: spectrograms in dB, float32 `[shape=(B, n_mels, num_frames)]`.

    Returns:
        int64 `[shape=(B,)]`.
    """
    num_frames = mel_BMT.shape[2]
    floor_B = mel_BMT.amin(dim=(1, 2))
    is_sound_BT = mel_BMT.amax(dim=1) > floor_B[:, None] + TOLERANCE_DB
    position_T = torch.arange(1, num_frames + 1, device=mel_BMT.device)
    return (is_sound_BT * position_T).amax(dim=1).clamp(min=max(1, int(MIN_PERIOD * num_frames)))


def take_frames(mel_BMT: Tensor, index_BT: Tensor) -> Tensor:
    """Return frames of each clip by their indices, int64 `[shape=(B, num_frames)]`."""
    return mel_BMT.gather(2, index_BT[:, None, :].expand(-1, mel_BMT.shape[1], -1))


def repeat_short_clips(mel_BMT: Tensor) -> Tensor:
    """Repeat the frames before the zero padding; clips without padding stay as they are.

    Args:
        mel_BMT: spectrograms in dB, float32 `[shape=(B, n_mels, num_frames)]`.
    """
    num_frames, period_B = mel_BMT.shape[2], sounding_frames(mel_BMT)
    # Only on a CPU: a GPU would have to be waited for. An exported network cannot choose.
    is_eager_cpu = mel_BMT.device.type == "cpu" and not torch.compiler.is_exporting()
    if is_eager_cpu and bool((period_B == num_frames).all()):
        return mel_BMT
    position_T = torch.arange(num_frames, device=mel_BMT.device)
    return take_frames(mel_BMT, position_T % period_B[:, None])

"""The vocoder of a run, for the spectrograms of a generator."""

from __future__ import annotations

from pathlib import Path

from models.vocoder import VocoderNetwork
from pipeline.audio.mel import MelConfig
from pipeline.io.errors import UserError
from pipeline.training.model_file import load_vocoder


def load_network(run: Path | None, mel: MelConfig, flag: str = "--vocoder") -> VocoderNetwork | None:
    """Load the network of a run of `melray train-vocoder`; None without a run.

    Args:
        run: folder of the run.
        mel: settings of the spectrograms that it is used for.
        flag: name of the setting, for messages.

    Raises:
        UserError: no such run, no vocoder in it, one of other spectrograms, or a damaged file.
    """
    if run is None:
        return None
    saved = load_vocoder(run, flag)
    trained, wanted = saved.metadata.features.mel.to_dict(), mel.to_dict()
    for key, value in wanted.items():
        if trained[key] != value:
            raise UserError(
                f"{flag} {run}: a vocoder of spectrograms with {key} = {trained[key]}, and those of the "
                f"generator have {value}: train one on the generator's shards"
            )
    return saved.model.requires_grad_(False)

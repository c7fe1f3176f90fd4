"""Networks of all trials of a search: checked before the first one is trained."""

from __future__ import annotations

from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import check_network
from pipeline.gan.config import TrainGanConfig
from pipeline.gan.initial_networks import check_initial_run
from pipeline.training.run import training_clips
from tune.dimensions import Choice
from tune.trial.spec import TrialSpec


def check_networks(spec: TrialSpec) -> None:
    """Check that the networks of all trials can be built: else trials fail one by one, and are not repeated.

    Raises:
        UserError: timm is missing, or does not know a name; or a network cannot start from a run `init_from`,
            or has been trained on clips that are validated here.
    """
    dimensions = {key: spec.space.dimensions.get(key) for key in ("model.arch", "init_from")}
    choices = {key: found.choices for key, found in dimensions.items() if isinstance(found, Choice)}
    first = spec.space.read(spec.base) | {key: values[0] for key, values in choices.items()}
    others = [first | {key: value} for key, values in choices.items() for value in values[1:]]
    for params in (first, *others):
        settings = spec.settings(0, params)[0]
        if isinstance(settings, TrainGanConfig):
            check_initial_run(settings)
        if isinstance(settings, TrainClassifierConfig):
            check_network(settings.model)
        if settings.initial_run is not None:
            training_clips(settings)

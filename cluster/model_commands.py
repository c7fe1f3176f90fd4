"""Commands that use a trained model, and how they run: it depends on the kind of model and the work."""

from __future__ import annotations

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.execution import command_execution
from pipeline.classifier import evaluate as classifier_evaluation
from pipeline.classifier import show as recording_page
from pipeline.classifier.command_configs import EnsembleConfig, EvaluateConfig, ShowConfig
from pipeline.classifier.ensemble_of_runs import combine_runs
from pipeline.classifier.export import export_classifier
from pipeline.distributed.devices import process_device
from pipeline.gan import generate as generation
from pipeline.gan.config import GenerateConfig
from pipeline.gan.evaluate import evaluate_gan
from pipeline.gan.export import export_generator
from pipeline.io.errors import UserError
from pipeline.training.export.config import ExportConfig
from pipeline.training.model_file import model_kind
from pipeline.training.trackers.tracking import tracked


def evaluate(config: EvaluateConfig, common: CommonFlags) -> int:
    """Evaluate a classifier or a generator, in this process: seconds to minutes, not worth starting Ray.

    Raises:
        UserError: an unusable run or dataset, or settings that a generator does not have.
    """
    with tracked(config, with_settings=False):
        _evaluate(config)
    return 0


def _evaluate(config: EvaluateConfig) -> None:
    is_generator = model_kind(config.run) == "generator"
    _check_flags_of_others(config, is_generator)
    if is_generator:
        evaluate_gan(
            config.run,
            config.clips_per_class,
            config.out,
            process_device(config.device),
            config.reference_run,
            config.shards,
        )
    else:
        classifier_evaluation.evaluate(config)


def _check_flags_of_others(config: EvaluateConfig, is_generator: bool) -> None:
    """Raise `UserError` if a setting is given that evaluations of this kind of model do not have."""
    others = ("split", "tta_shifts") if is_generator else ("clips_per_class", "reference_run")
    reason = "holds a generator, which is evaluated without" if is_generator else "holds no generator"
    for name in others:
        value = getattr(config, name)
        if value != EvaluateConfig.model_fields[name].default:
            flag = f"--{name.replace('_', '-')} {value}"
            raise UserError(f"{flag}: {config.run} {reason}; drop it")


def ensemble(config: EnsembleConfig, common: CommonFlags) -> int:
    """Combine classifiers in this process: it predicts the clips that calibrate them once for each."""
    combine_runs(config)
    return 0


def export(config: ExportConfig, common: CommonFlags) -> int:
    """Export a classifier or a generator, in this process."""
    if model_kind(config.run) == "generator":
        export_generator(config)
    else:
        export_classifier(config)
    return 0


def show(config: ShowConfig, common: CommonFlags) -> int:
    """Write the page of a recording, in this process: it takes less time than listening to it."""
    recording_page.show(config)
    return 0


def generate(config: GenerateConfig, common: CommonFlags) -> int:
    """Generate clips in this process if they are few, else on Ray."""
    with command_execution(common):
        generation.generate_by_size(config)
    return 0

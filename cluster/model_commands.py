"""Commands that use a trained model, and how they run: it depends on the kind of model and the work."""

from __future__ import annotations

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.execution import command_execution
from pipeline.classifier import evaluate as classifier_evaluation
from pipeline.classifier import show as recording_page
from pipeline.classifier.evaluation_rows import EvaluateConfig
from pipeline.classifier.export import export_classifier
from pipeline.classifier.show import ShowConfig
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
    if model_kind(config.run) == "generator":
        for name in ("shards", "split", "tta_shifts"):
            value = getattr(config, name)
            if value != EvaluateConfig.model_fields[name].default:
                flag = f"--{name.replace('_', '-')} {value}"
                raise UserError(
                    f"{flag}: {config.run} holds a generator, which is evaluated without; drop it"
                )
        device = process_device(config.device)
        evaluate_gan(config.run, config.clips_per_class, config.out, device, config.reference_run)
    else:
        classifier_evaluation.evaluate(config)


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

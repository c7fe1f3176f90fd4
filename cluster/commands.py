"""What each sub-command does: its settings, and the stage that runs them."""

from __future__ import annotations

import yaml

from cluster.flags import Common, parse, split_common
from cluster.session import session
from models.config import Config


def dispatch(name: str, arguments: list[str]) -> None:
    """Runs a sub-command.

    Raises:
        UserError, ConfigError: by the user's doing, in one line.
    """
    common, rest = split_common(arguments)
    {
        "demo": demo,
        "extract": extract,
        "train-classifier": train_classifier,
        "train-gan": train_gan,
        "crossval": crossval,
        "evaluate": evaluate,
        "predict": predict,
        "generate": generate,
    }[name](common, rest)


def demo(common: Common, arguments: list[str]) -> None:
    from cluster.demo import DemoConfig, run_demo

    config = parse(DemoConfig, "demo", arguments, common.config)
    with session(common.address, common.cpus):
        run_demo(config)


def extract(common: Common, arguments: list[str]) -> None:
    from pipeline.extract import ExtractConfig
    from pipeline.extract import extract as run

    config = parse(ExtractConfig, "extract", arguments, common.config)
    show(config)
    with session(common.address, common.cpus):
        manifest = run(config)
    print(f"{manifest.clips} clips, {manifest.rows} rows, {manifest.rejected} rejected\nshards: {config.out}")


def train_classifier(common: Common, arguments: list[str]) -> None:
    from pipeline.classifier_config import TrainClassifierConfig
    from pipeline.classifier_run import train_classifier as run

    config = parse(TrainClassifierConfig, "train-classifier", arguments, common.config)
    show(config)
    with session(common.address, common.cpus):
        run(config)


def train_gan(common: Common, arguments: list[str]) -> None:
    from pipeline.gan_config import TrainGanConfig
    from pipeline.gan_run import train_gan as run

    config = parse(TrainGanConfig, "train-gan", arguments, common.config)
    show(config)
    with session(common.address, common.cpus):
        run(config)


def crossval(common: Common, arguments: list[str]) -> None:
    from pipeline.crossval import CrossvalConfig
    from pipeline.crossval import crossval as run

    config = parse(CrossvalConfig, "crossval", arguments, common.config)
    show(config)
    with session(common.address, common.cpus):
        run(config)


def evaluate(common: Common, arguments: list[str]) -> None:
    # One process does it in seconds: no Ray.
    from pipeline.evaluate import EvaluateConfig
    from pipeline.evaluate import evaluate as run
    from pipeline.gan_evaluate import evaluate_gan
    from pipeline.model_file import kind_of

    config = parse(EvaluateConfig, "evaluate", arguments, common.config)
    if kind_of(config.run) == "generator":
        evaluate_gan(config.run, config.clips_per_class, config.out)
    else:
        run(config)


def predict(common: Common, arguments: list[str]) -> None:
    from pipeline.predict import PredictConfig
    from pipeline.predict import predict as run

    config = parse(PredictConfig, "predict", arguments, common.config)
    with session(common.address, common.cpus):
        run(config)


def generate(common: Common, arguments: list[str]) -> None:
    from pipeline.generate import GenerateConfig, run_units, worth_ray
    from pipeline.generate import generate as run

    config = parse(GenerateConfig, "generate", arguments, common.config)
    if not worth_ray(config):
        run(config)
        return
    with session(common.address, common.cpus):
        run(config, run_units)


def show(config: Config) -> None:
    """Prints the resolved settings, as YAML that --config takes."""
    print(yaml.safe_dump(config.values(), sort_keys=False, allow_unicode=True, default_flow_style=None).rstrip(), flush=True)

"""Descriptions of experiments in words, made from their configurations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from nucleus.experiments.publications.experiment import PREVIOUS, Experiment, Figure, Training
from nucleus.models.registry import NETWORKS, ModelConfig

_WIDTH = 110


def list_experiments(experiments: Iterable[Experiment]) -> str:
    """Returns a table with name, first published score and summary, one line for each experiment.

    Args:
        experiments: Experiments in the order of the lines.
    """
    lines = []
    citation = None
    for experiment in experiments:
        if experiment.citation != citation:
            citation = experiment.citation
            lines += ["", str(citation)] if lines else [str(citation)]
        lines.append(f"  {experiment.name:38} {_published(experiment.figures[0]):>22}  {experiment.summary}")
    return "\n".join(lines)


def describe(experiment: Experiment) -> str:
    """Returns a description: publication, data, network, stages, published scores and notes.

    Args:
        experiment: The experiment.
    """
    facts = [
        ("publication", f"{experiment.citation} {experiment.place[0].upper()}{experiment.place[1:]}"),
        ("data", _data(experiment)),
    ]
    facts += [("member", f"{member.name}: {member.summary}") for member in experiment.members]
    facts += _network(experiment) if experiment.trainings else []
    facts += [("published", ", ".join(_published(figure) for figure in experiment.figures))]
    facts += [("note", note) for note in experiment.notes]
    return "\n".join([f"{experiment.name}: {experiment.summary}", *(_entry(name, text) for name, text in facts)])


def _network(experiment: Experiment) -> list[tuple[str, str]]:
    network = NETWORKS[experiment.model]
    facts = [("model", network.summary)]
    for number, training in enumerate(experiment.trainings, start=1):
        config = experiment.training_config(training)
        facts += [
            (f"training {number}", _training(training, config)),
            ("architecture", network.describe_settings(config).architecture),
            ("stages", _stages(config, experiment.whole_epochs)),
        ]
    config = experiment.inference_config()
    words = network.describe_settings(config)
    facts += [("preprocessing", f"{'CLAHE' if config.CLAHE else 'none'}; {words.images}")]
    views = config.make_views()
    if len(views) > 1:
        facts += [("views", f"of each image {len(views)}: {', '.join(map(str, views))}")]
    holes = ", holes filled" if config.FILL_HOLES else ""
    area = f", nuclei of {config.MIN_AREA} pixels at least" if config.MIN_AREA else ""
    return [*facts, ("post-processing", f"{words.nuclei}{holes}{area}")]


def _entry(name: str, text: str) -> str:
    indents = {"initial_indent": f"  {name + ':':17}", "subsequent_indent": " " * 19}
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False, **indents)


def _published(figure: Figure) -> str:
    value = "drawn" if figure.value is None else f"{figure.value:g}"
    return f"{figure.metric}{f' ({figure.part})' if figure.part else ''} {value}"


def _data(experiment: Experiment) -> str:
    source = experiment.source
    if source.folds:
        division = f"{source.folds} folds, held out one after the other: {', '.join(map(str, source.held_out))}"
    else:
        division = "the customary division into train and val"
    tests = f"; scored on {', '.join(source.tests.values())}" if source.tests else ""
    fit = f"; scaled into {source.fit} x {source.fit}, aspect ratio kept" if source.fit else ""
    return f"{source.name}; {division}{tests}{fit}"


def _training(training: Training, config: ModelConfig) -> str:
    begin = {"none": "random weights", PREVIOUS: "the weights of the training before"}
    changed = "".join(f" {name}={value}" for name, value in training.settings.items())
    return f"preset {training.preset}{changed}, from {begin.get(training.weights, training.weights + ' weights')}"


def _stages(config: ModelConfig, whole_epochs: bool) -> str:
    stages = (
        f"{layers} for {epochs} epochs at {rate[0] if rate else config.LEARNING_RATE:g}"
        for layers, epochs, *rate in config.STAGES
    )
    decay = f", L2 {config.WEIGHT_DECAY:g}" if config.WEIGHT_DECAY else ""
    steps = "one pass over the images in batches" if whole_epochs else f"{config.STEPS_PER_EPOCH} batches"
    return (
        f"{', then '.join(stages)}; an epoch is {steps} of {config.BATCH_SIZE}; "
        f"{config.OPTIMIZER}{decay}, augmentation {config.AUGMENTATION}"
    )

"""The search for post-processing settings."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from nucleus.evaluation.scores import average_precision
from unet.postprocess import PostprocessSettings, postprocess
from unet.targets import make_targets
from unet.tuning import tune

GRID = {"MASK_THRESHOLD": (0.2, 0.5, 0.7), "MIN_AREA": (0, 6)}


@pytest.fixture(scope="module")
def validation():
    """Two images whose best settings are known: nuclei at 0.6, a halo at 0.3 around them, and specks of 4 pixels."""
    probabilities, truth = [], []
    for seed in range(2):
        labels = np.zeros((40, 40), np.int32)
        for number, (y, x) in enumerate(itertools.product((8, 26), (8, 26)), start=1):
            labels[y : y + 6 + seed, x : x + 6] = number
        halo = make_targets(labels, "mask-border", border_width=3)[..., 0]
        prediction = np.zeros((40, 40, 3), np.float32)
        for y, x in np.argwhere(halo):
            prediction[y - 2 : y + 3, x - 2 : x + 3, 0] = 0.3
        prediction[labels > 0, 0] = 0.6
        prediction[2:4, 20:22, 0] = 0.6
        prediction[..., 1] = prediction[..., 0]
        probabilities.append(prediction)
        truth.append(labels)
    return probabilities, truth


def test_grid_tries_everything_and_puts_the_best_first(validation):
    base = PostprocessSettings(mask_threshold=0.2)
    report = tune(*validation, base, GRID, average_precision)
    assert report.best == {"MASK_THRESHOLD": 0.5, "MIN_AREA": 6}
    tried = {tuple(trial.settings.values()) for trial in report.trials}
    assert tried == set(itertools.product(*GRID.values()))
    scores = [trial.score for trial in report.trials]
    assert scores == sorted(scores, reverse=True) and scores[0] == 1 > scores[1]
    assert report.start.settings == {"MASK_THRESHOLD": 0.2, "MIN_AREA": 0}
    for trial in report.trials:
        settings = PostprocessSettings(
            mask_threshold=trial.settings["MASK_THRESHOLD"], min_area=trial.settings["MIN_AREA"]
        )
        expected = [average_precision(t, postprocess(p, settings)[0]) for p, t in zip(*validation, strict=True)]
        assert trial.scores == pytest.approx(expected) and trial.score == pytest.approx(np.mean(expected))


def test_coordinate_search_finds_it_with_fewer_trials(validation):
    grid = {"MASK_THRESHOLD": (0.1, 0.2, 0.5, 0.55, 0.7), "MIN_AREA": (0, 2, 6, 8), "FILL_HOLES": (True, False)}
    base = PostprocessSettings(mask_threshold=0.2)
    report = tune(*validation, base, grid, average_precision, search="coordinate")
    assert report.best == {"MASK_THRESHOLD": 0.5, "MIN_AREA": 6, "FILL_HOLES": True}
    assert len(report.trials) < 20


def test_the_settings_at_hand_are_kept_when_nothing_is_better(validation):
    for search in ("grid", "coordinate"):
        report = tune(
            *validation, PostprocessSettings(), {"BORDER_THRESHOLD": (0.1, 0.9)}, average_precision, search=search
        )
        assert report.best == {"BORDER_THRESHOLD": 0.5} and report.trials[0] is report.start


def test_it_is_deterministic_and_reads_a_configuration(validation):
    config = SimpleNamespace(
        TARGETS="mask-borderless-touching",
        POSTPROCESS="watershed",
        MASK_THRESHOLD=0.2,
        MARKER_THRESHOLD=0.5,
        BORDER_THRESHOLD=0.5,
        OPENING_RADIUS=2,
        MIN_AREA=0,
        FILL_HOLES=True,
        KEEP_UNMARKED=True,
    )
    first = tune(*validation, config, GRID, average_precision)
    assert first == tune(*validation, PostprocessSettings.from_config(config), GRID, average_precision)


def test_table_and_rows(validation):
    report = tune(*validation, PostprocessSettings(mask_threshold=0.2), GRID, average_precision)
    lines = str(report).splitlines()
    assert lines[0].split() == ["MASK_THRESHOLD", "MIN_AREA", "score"]
    assert lines[1].split() == ["0.5", "6", "1.0000"]
    assert len(lines) == 7 and sum(line.endswith("*") for line in lines) == 1
    assert next(line for line in lines if line.endswith("*")).split()[:2] == ["0.2", "0"]
    assert report.table(limit=2).splitlines() == lines[:3]
    assert report.rows[0] == {"MASK_THRESHOLD": 0.5, "MIN_AREA": 6, "score": 1.0} and len(report.rows) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"LEARNING_RATE": (1,)}}, "LEARNING_RATE"),
        ({"grid": {}}, "none"),
        ({"grid": {"MIN_AREA": ()}}, "no values"),
        ({"grid": {"MIN_AREA": (3, -1)}}, "min_area"),
        ({"truth": []}, "2 probabilities, 0 label images"),
        ({"probabilities": [], "truth": []}, "0 probabilities"),
        ({"search": "random"}, "one of grid"),
        ({"metric": lambda truth, predicted: float("nan")}, "finite number.*image 0"),
    ],
)
def test_bad_input(validation, changes, message):
    arguments = {
        "probabilities": validation[0],
        "truth": validation[1],
        "config": PostprocessSettings(),
        "grid": GRID,
        "metric": average_precision,
    }
    with pytest.raises(ValueError, match=message):
        tune(**{**arguments, **changes})

"""Searching settings: what is tried, what of it is left for the narrow search, and how a stopped search goes on."""

import importlib.util
import math
from dataclasses import replace

import pandas as pd
import pytest

from nucleus import cli
from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.provenance import ProvenanceError
from nucleus.experiments.search.objective import TrainingObjective, searchable
from nucleus.experiments.search.space import Dimension, parse_dimension
from nucleus.experiments.search.studies import TRIALS_FILE, SearchPlan, SearchStoppedError, search
from nucleus.models.recipe import Recipe
from nucleus.models.registry import make_config
from nucleus.training.tuning import split_values
from trainkit.download import DownloadError
from trainkit.fitting import TrainingDivergedError

pytest.importorskip("optuna")

RATE = Dimension("LEARNING_RATE", low=1e-5, high=0.1, log=True)
BATCH = Dimension("BATCH_SIZE", low=1, high=8, whole=True)
OPTIMIZER = Dimension("OPTIMIZER", ("SGD", "Adam"))
SPACE = (RATE, BATCH, OPTIMIZER)


def near_a_thousandth(settings, _):
    """A score that is best for Adam at 0.001."""
    return 1 - abs(math.log10(settings["LEARNING_RATE"]) + 3) / 4 - (settings["OPTIMIZER"] == "SGD")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("LEARNING_RATE", "1e-5..0.1:log", RATE),
        ("LEARNING_RATE", "0.1..1", Dimension("LEARNING_RATE", low=0.1, high=1.0)),
        ("BATCH_SIZE", "1..8", BATCH),
        ("OPTIMIZER", "SGD, Adam", OPTIMIZER),
        ("DECODER_FILTERS", "(8,8,8,8,8),None", Dimension("DECODER_FILTERS", ("(8,8,8,8,8)", "None"))),
    ],
)
def test_what_to_try_is_read(name, text, expected):
    assert parse_dimension(make_config("training", model="unet"), name, text) == expected


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("LEARNING_RATE", "0.1..0.01", "lower and a higher"),
        ("WEIGHT_DECAY", "0..0.1:log", "above 0"),
        ("LEARNING_RATE", "low..high", "LEARNING_RATE"),
        ("BATCH_SIZE", "0..8", "BATCH_SIZE"),
        ("OPTIMIZER", "SGD..Adam", "numbers on both sides"),
        ("OPTIMIZER", "SGD,Adagrad", "Adagrad"),
        ("OPTIMIZR", "SGD", "OPTIMIZER"),
        ("OPTIMIZER", "SGD,,Adam", "commas"),
        ("LEARNING_RATE", "0.1..", "LEARNING_RATE"),
    ],
)
def test_what_cannot_be_tried_is_named(name, text, cause):
    with pytest.raises(ValueError, match=cause):
        parse_dimension(make_config("training", model="unet"), name, text)


def test_lists_are_split_outside_of_brackets():
    assert split_values("(1, 2),[3,(4,5)], x") == ["(1, 2)", "[3,(4,5)]", "x"]


def test_the_narrow_search_stays_within_the_best(tmp_path):
    trials = search(SearchPlan(SPACE, trials=8, narrow=3), near_a_thousandth, tmp_path)
    assert [trial.value for trial in trials] == sorted((trial.value for trial in trials), reverse=True)
    broad = [trial for trial in trials if trial.stage == "broad"]
    narrow = [trial for trial in trials if trial.stage == "narrow"]
    assert (len(broad), len(narrow)) == (8, 3)
    assert len({trial.settings["LEARNING_RATE"] for trial in trials}) == 11, "no trial twice"
    best = broad[:3]
    for name in ("LEARNING_RATE", "BATCH_SIZE"):
        low, *_, high = sorted(trial.settings[name] for trial in best)
        assert all(low <= trial.settings[name] <= high for trial in narrow)
    assert {trial.settings["OPTIMIZER"] for trial in narrow} <= {trial.settings["OPTIMIZER"] for trial in best}
    table = pd.read_csv(tmp_path / TRIALS_FILE)
    assert table["stage"].tolist() == ["broad"] * 8 + ["narrow"] * 3 and table["mAP"].max() == trials[0].value


def test_a_stopped_search_ends_as_one_that_was_not(tmp_path):
    plan = SearchPlan(SPACE, trials=4, narrow=2, seed=3)
    whole = search(plan, near_a_thousandth, tmp_path / "whole")
    calls = []

    def stop_at_the_third(settings, folder):
        calls.append((dict(settings), folder.name))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return near_a_thousandth(settings, folder)

    with pytest.raises(KeyboardInterrupt):
        search(plan, stop_at_the_third, tmp_path / "stopped")
    search(SearchPlan(SPACE, trials=3, narrow=0, seed=3), stop_at_the_third, tmp_path / "stopped")
    resumed = search(plan, stop_at_the_third, tmp_path / "stopped")
    assert [(t.stage, t.number, t.settings, t.value) for t in resumed] == [
        (t.stage, t.number, t.settings, t.value) for t in whole
    ]
    assert calls[2] == calls[3] and len(calls) == 4 + 2 + 1, "the third is run again, the others are not"
    assert search(plan, stop_at_the_third, tmp_path / "stopped") == resumed and len(calls) == 7


def test_a_narrow_search_stays_in_its_space_when_more_trials_are_asked_for(tmp_path, capsys):
    first = search(SearchPlan(SPACE, trials=4, narrow=3), near_a_thousandth, tmp_path)
    narrowed = [trial for trial in first if trial.stage == "narrow"]
    capsys.readouterr()
    calls = []

    def count(settings, folder):
        calls.append(folder.name)
        return near_a_thousandth(settings, folder)

    more = search(SearchPlan(SPACE, trials=12, narrow=3), count, tmp_path)
    assert calls == [f"broad-{number:03d}" for number in range(5, 13)]
    assert "8 more broad trials: the narrow search has begun, and stays" in capsys.readouterr().out
    assert len(more) == 15 and all(trial in more for trial in first)

    assert search(SearchPlan(SPACE, trials=4, narrow=3), count, tmp_path) == more, "none is run again, none is left out"
    assert search(SearchPlan(SPACE, trials=12), count, tmp_path) == more
    assert len(pd.read_csv(tmp_path / TRIALS_FILE)) == 15

    longer = search(SearchPlan(SPACE, trials=4, narrow=5), count, tmp_path)
    best = [trial.settings for trial in first if trial.stage == "broad"][:3]
    for trial in longer:
        if trial.stage == "narrow":
            for name in ("LEARNING_RATE", "BATCH_SIZE"):
                low, *_, high = sorted(settings[name] for settings in best)
                assert low <= trial.settings[name] <= high
    at_once = search(SearchPlan(SPACE, trials=4, narrow=5), near_a_thousandth, tmp_path / "at once")
    assert len(narrowed) == 3 and [trial.settings for trial in longer if trial.stage == "narrow"] == [
        trial.settings for trial in at_once if trial.stage == "narrow"
    ]
    assert len(calls) == 10 and capsys.readouterr().out.count("more broad trials") == 0


def test_more_broad_trials_before_the_narrow_search_narrow_it(tmp_path):
    search(SearchPlan(SPACE, trials=4), near_a_thousandth, tmp_path / "raised")
    raised = search(SearchPlan(SPACE, trials=8, narrow=2), near_a_thousandth, tmp_path / "raised")
    assert raised == [
        replace(trial, seconds=again.seconds)
        for trial, again in zip(
            search(SearchPlan(SPACE, trials=8, narrow=2), near_a_thousandth, tmp_path / "whole"), raised, strict=True
        )
    ]


@pytest.mark.parametrize(
    "error", [OSError("no space left"), DownloadError("no network"), MemoryError("images"), DatasetError("no masks")]
)
def test_what_settings_have_no_part_in_stops_the_search_and_is_tried_again(tmp_path, error):
    calls = []

    def fail_at_first(settings, folder):
        calls.append((dict(settings), folder.name))
        if len(calls) == 2:
            raise error
        return near_a_thousandth(settings, folder)

    with pytest.raises(
        SearchStoppedError, match=rf"broad trial 2 could not be run \({type(error).__name__}: {error}\)"
    ):
        search(SearchPlan(SPACE, trials=3), fail_at_first, tmp_path)
    assert len(pd.read_csv(tmp_path / TRIALS_FILE)) == 1
    trials = search(SearchPlan(SPACE, trials=3), fail_at_first, tmp_path)
    assert calls[1] == calls[2] and [name for _, name in calls[2:]] == ["broad-002", "broad-003"]
    assert len(trials) == 3 and all(trial.value is not None for trial in trials)


def test_another_seed_tries_other_settings(tmp_path):
    one, two = (
        search(SearchPlan(SPACE, trials=1, seed=seed), near_a_thousandth, tmp_path / str(seed))[0].settings
        for seed in (1, 2)
    )
    assert one != two


def test_failures_are_noted_and_not_fatal(tmp_path):
    def fail_for_sgd(settings, folder):
        if settings["OPTIMIZER"] == "SGD":
            raise RuntimeError("out of memory\nand more")
        return float("nan") if settings["BATCH_SIZE"] == 1 else near_a_thousandth(settings, folder)

    trials = search(SearchPlan(SPACE, trials=6), fail_for_sgd, tmp_path)
    failed = [trial for trial in trials if trial.value is None]
    assert 0 < len(failed) < 6 and trials[-len(failed) :] == failed
    assert {"RuntimeError: out of memory"} <= {trial.error for trial in failed}
    table = pd.read_csv(tmp_path / TRIALS_FILE)
    assert table["error"].notna().sum() == table["mAP"].isna().sum() == len(failed)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install optuna"):
        search(SearchPlan(SPACE, trials=1), near_a_thousandth, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    search(SearchPlan(SPACE, trials=1, base={"epochs": 2}), near_a_thousandth, tmp_path)
    for plan, change in (
        (SearchPlan(SPACE, 1, base={"epochs": 3}), r"base\.epochs was 2, is now 3"),
        (SearchPlan(SPACE[1:], 1, base={"epochs": 2}), r"space\.0\.name was 'LEARNING_RATE', is now 'BATCH_SIZE'"),
    ):
        with pytest.raises(
            ProvenanceError, match=rf"search\.sqlite3, broad search: .*{change}.* another output folder"
        ):
            search(plan, near_a_thousandth, tmp_path)


def test_trials_without_a_note_of_their_settings_are_refused(tmp_path):
    """They may be those of another program, or of other images: ranking them beside new ones would be wrong."""
    import optuna

    url = f"sqlite:///{tmp_path / 'search.sqlite3'}"
    study = optuna.create_study(storage=url, study_name="broad", direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=0.9))
    with pytest.raises(ProvenanceError, match=r"search\.sqlite3, broad search: has no note of the settings"):
        search(SearchPlan(SPACE, 2), near_a_thousandth, tmp_path)
    assert not (tmp_path / TRIALS_FILE).exists()


def test_a_search_that_was_stopped_before_its_first_note_goes_on(tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path / 'search.sqlite3'}"
    optuna.create_study(storage=url, study_name="broad", direction="maximize")
    assert len(search(SearchPlan(SPACE, 1), near_a_thousandth, tmp_path)) == 1


def test_a_file_that_is_no_storage_is_named(tmp_path):
    (tmp_path / "search.sqlite3").write_text("something else, and long enough to be no empty file" * 20)
    with pytest.raises(ValueError, match=r"search\.sqlite3"):
        search(SearchPlan(SPACE, trials=1), near_a_thousandth, tmp_path)


def test_a_searched_learning_rate_is_not_passed_over_by_stages():
    recipe = Recipe("xception", {}, "unet")
    assert searchable(recipe, ["LEARNING_RATE"]).settings["STAGES"] == (("decoder", 5), ("all", 15))
    assert searchable(recipe, ["BATCH_SIZE"]) is recipe
    assert searchable(recipe, ["LEARNING_RATE", "STAGES"]) is recipe


def test_the_command_trains_and_prints_the_best(tmp_path, capsys, eager):
    from nucleus.datasets.dataset import shipped_data

    root = tmp_path / "data"
    for subset, name in (("one", "8ecdb9"), ("other", "309ba7")):
        (sample,) = (shipped_data() / "stage1_train").glob(f"{name}*")
        (root / subset).mkdir(parents=True)
        (root / subset / sample.name).symlink_to(sample)
    tiny = ("ENCODER_FILTERS=(4,6,8)", "IMAGE_SIZE=32", "BATCH_SIZE=1", "VALIDATION_STEPS=0", "DATA_WORKERS=0")
    arguments = ["search", "--model=unet", "--preset=small", "--dataset", root, "--subset=one", "--val-subset=other"]
    arguments += [part for setting in tiny for part in ("--set", setting)]
    arguments += ["--set", "DROPOUT=0.1", "--steps=1", "--epochs=1", "--trials=2", "--output", tmp_path / "out"]
    arguments += ["--try", "LEARNING_RATE=0.001..0.01:log", "--try", "LOSS=bce,dice"]
    assert cli.main([str(argument) for argument in arguments]) == 0
    table = pd.read_csv(tmp_path / "out" / TRIALS_FILE)
    assert len(table) == 2 and table["mAP"].between(0, 1).all() and table["error"].isna().all()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Best:") and "STAGES=(('all', 50),)" in last and '--set "LEARNING_RATE=0.00' in last
    assert not list((tmp_path / "out").rglob("*.h5")), "weights of trials are not kept"


def test_the_command_fails_where_no_trial_succeeds(tmp_path, capsys, monkeypatch, add_sample, rectangle):
    errors = [OSError("no network"), RuntimeError("shapes"), TrainingDivergedError("NaN")]

    def fail(*_):
        raise errors.pop(0)

    monkeypatch.setattr(TrainingObjective, "__call__", fail)
    add_sample("a", [rectangle(1, 1, 5, 5)])
    arguments = ["search", "--model=unet", "--preset=small", f"--dataset={tmp_path}", "--subset=all"]
    arguments += ["--val-subset=all", "--try=BATCH_SIZE=1,2", "--trials=2", f"--output={tmp_path / 'out'}"]
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert "broad trial 1 could not be run (OSError: no network)" in error and "goes on with it" in error
    assert not (tmp_path / "out" / TRIALS_FILE).exists() and len(errors) == 2
    assert cli.main(arguments) == 1
    assert "Every trial failed, the last with: TrainingDivergedError: NaN" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "out" / TRIALS_FILE)) == 2 and not errors


@pytest.mark.parametrize(
    ("arguments", "status", "cause"),
    [
        (("--model=unet",), 2, "--try"),
        (("--model=unet", "--try", "BATCH_SIZE"), 2, "NAME=VALUE"),
        (("--model=unet", "--try", "BATCH_SIZE=1,2", "--weights=last"), 2, "cannot resume a run"),
        (("--model=unet", "--try", "BATCH_SIZE=1,2", "--try", "BATCH_SIZE=3"), 1, "BATCH_SIZE is given twice"),
        (("--model=unet", "--try", "BATCH_SIZE=1,2", "--dataset=gone"), 1, "gone"),
    ],
)
def test_wrong_usage_of_the_command(tmp_path, capsys, arguments, status, cause):
    try:
        assert cli.main(["search", *arguments, "--output", str(tmp_path / "out")]) == status
    except SystemExit as end:
        assert end.code == status
    assert cause in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

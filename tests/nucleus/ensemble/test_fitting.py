"""Fitting: what the ensemble gains over its members, and that no figure is of an image that was seen."""

from dataclasses import replace

import numpy as np
import pytest

from nucleus.ensemble import fitting
from nucleus.ensemble.fitted import Rules
from nucleus.ensemble.fitting import TRIED_THRESHOLDS, best_rules, fit_ensemble
from nucleus.ensemble.report import BEST_CHOICE, ENSEMBLE, report
from nucleus.evaluation.scores import average_precision


def test_it_scores_above_both_of_its_members(examples, fitted):
    reported = report(examples, fitted)
    scores = reported.scores.loc["all"]
    assert scores.loc[ENSEMBLE, "mAP"] > max(scores.loc["big", "mAP"], scores.loc["small", "mAP"]) + 0.3
    assert scores.loc[BEST_CHOICE, "mAP"] == 1
    assert reported.regression.loc["all", "R2"] > 0.9 and reported.regression.loc["small", "masks"] == 9 * 16


def test_each_nucleus_is_picked_from_the_member_that_is_good_at_it(examples, fitted):
    reported = report(examples, fitted)
    big = sum(np.count_nonzero(np.bincount(example.truth.ravel())[1:] > 100) for example in examples)
    assert reported.picks["nuclei"].to_dict() == {"big": big, "small": 9 * 16 - big}
    assert reported.picks["part"].sum() == pytest.approx(1)


def test_the_report_scores_members_as_evaluation_does(examples, fitted):
    scores = report(examples, fitted).scores
    for number, member in enumerate(("big", "small")):
        expected = [average_precision(example.truth, example.candidates.labels[number]) for example in examples]
        assert scores.loc[("all", member), "mAP"] == pytest.approx(np.mean(expected))


def test_trees_never_grow_on_the_image_that_they_predict(examples, folds, quick, monkeypatch):
    """Each image has a feature that names it: what grew on which images can be read off."""
    marked = [
        replace(example, features=np.full((len(example.iou), 1), float(example.id)), iou=example.iou * 0)
        for example in examples
    ]
    seen, reported = [], []

    def grow(features, *_):
        seen.append(frozenset(np.unique(features).astype(int)))
        return [[seen[-1]]]

    def predict(models, features):
        reported.append((models[0][0], int(features[0, 0])))
        return np.zeros(len(features))

    monkeypatch.setattr(fitting, "grow", grow)
    monkeypatch.setattr(fitting, "predict_mean", predict)
    fit_ensemble(marked, folds, quick)
    fold_of = {int(name): number for number, fold in enumerate(folds) for name in fold}
    for images, image in reported:
        assert fold_of[image] not in {fold_of[other] for other in images}
    # Once on all, once without each fold, once without each two.
    assert len(seen) == 1 + 3 + 3 and sorted(len(images) for images in seen) == [3] * 3 + [6] * 3 + [9]


def test_the_threshold_of_a_fold_is_chosen_on_the_others(examples, folds, quick, monkeypatch):
    asked = []

    def choose(chosen_on, quality, rules):
        asked.append({example.id for example in chosen_on})
        return replace(rules, threshold=len(asked) / 10)

    monkeypatch.setattr(fitting, "best_rules", choose)
    fitted = fit_ensemble(examples, folds, quick)
    everything = {example.id for example in examples}
    assert asked == [everything, *(everything - set(fold) for fold in folds)]
    assert [rules.threshold for rules in fitted.rules] == [0.2, 0.3, 0.4] * 3
    assert fitted.ensemble.rules.threshold == 0.1


def test_the_best_threshold_is_the_one_with_the_best_score(examples):
    rng = np.random.default_rng(0)
    some = examples[:3]
    # Masks below an IoU of 0.5 spoil the score, and noise hides some of them.
    quality = [np.clip(example.iou + rng.normal(0, 0.15, len(example.iou)), 0, 1) for example in some]

    def score(rules):
        rows = zip(some, quality, strict=True)
        found = [(example.truth, rules.select(example.candidates, values).labels) for example, values in rows]
        return np.mean([average_precision(*pair) for pair in found])

    rules = Rules(nms_threshold=1.0, least_visible=0)
    scores = [score(replace(rules, threshold=float(threshold))) for threshold in TRIED_THRESHOLDS]
    best = best_rules(some, quality, rules)
    assert score(best) == pytest.approx(max(scores)) and max(scores) > min(scores) + 0.1
    assert best.nms_threshold == 1


def test_of_equal_thresholds_the_nearest_to_the_given_one_is_taken(examples):
    some = examples[:1]
    assert best_rules(some, [some[0].iou], Rules(threshold=0.3)).threshold == 0.3


def test_a_given_threshold_stays(examples, folds, quick):
    rules = Rules(threshold=0.2, nms_threshold=0.4, least_visible=0.1)
    two = [folds[0] + folds[1], folds[2]]
    fitted = fit_ensemble(examples, two, replace(quick, rules=rules, choose_threshold=False))
    assert fitted.ensemble.rules == rules and set(fitted.rules) == {rules}


def test_the_same_seed_gives_the_same_ensemble(examples, folds, quick, fitted):
    again = fit_ensemble(examples, folds, quick)
    for one, other in zip(again.ensemble.models, fitted.ensemble.models, strict=True):
        assert [tree.to_json() for tree in one] == [tree.to_json() for tree in other]


def test_one_member_alone_loses_what_is_no_nucleus(scene, make_example, folds, quick):
    """With one model the ensemble only recognises the bad masks, here those on background."""
    rng = np.random.default_rng(0)
    examples = []
    for seed in range(9):
        image, truth, _ = scene(seed)
        labels = truth.copy()
        for y in rng.integers(0, 90, 5):
            labels[y : y + 3, :2] = labels.max() + 1
        labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
        examples.append(make_example(str(seed), image, truth, {"only": (labels, np.ones(labels.max()))}))
    scores = report(examples, fit_ensemble(examples, folds, quick)).scores.loc["all"]
    assert scores.loc["only", "mAP"] < 0.9 and scores.loc[ENSEMBLE, "mAP"] == 1


def test_images_without_masks_do_not_disturb(scene, make_example, examples, folds, quick):
    image, truth, predictions = scene(0)
    nothing = np.zeros_like(truth), np.zeros(0)
    empty = make_example("0", image, truth * 0, dict.fromkeys(predictions, nothing))
    half = make_example("1", *scene(1)[:2], {"big": nothing, "small": scene(1)[2]["small"]})
    some = [empty, half, *examples[2:]]
    reported = report(some, fit_ensemble(some, folds, quick))
    assert reported.scores.loc[("all", ENSEMBLE), "mAP"] > reported.scores.loc[("all", "small"), "mAP"]


def test_folds_that_do_not_fit_are_refused(examples, folds, quick, scene, make_example):
    with pytest.raises(ValueError, match="8: the image is in none of the folds"):
        fit_ensemble(examples, [folds[0], folds[1], folds[2][:-1]], quick)
    with pytest.raises(ValueError, match="fold 4 of 4 has none"):
        fit_ensemble(examples, [*folds, ["x"]], quick)
    with pytest.raises(ValueError, match="three folds"):
        fit_ensemble(examples, [folds[0] + folds[1], folds[2]], quick)
    image, truth, predictions = scene(0)
    nothing = dict.fromkeys(predictions, (np.zeros_like(truth), np.zeros(0)))
    empty = [make_example(str(seed), image, truth, nothing) for seed in range(3)]
    with pytest.raises(ValueError, match="no predicted mask"):
        fit_ensemble(empty, [["0"], ["1"], ["2"]], quick)


def test_scores_are_reported_by_modality(examples, fitted):
    some = [replace(example, modality=f"kind {int(example.id) % 2}") for example in examples]
    scores = report(some, fitted).scores
    assert list(dict.fromkeys(scores.index.get_level_values("group"))) == ["all", "kind 0", "kind 1"]
    assert scores.loc[("kind 0", ENSEMBLE), "images"] == 5 and scores.loc[("kind 1", ENSEMBLE), "images"] == 4

"""A fitted ensemble: its file, and finding nuclei with it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fitted import Rules, read_ensemble
from nucleus.evaluation.scores import average_precision


def test_it_finds_nuclei_as_any_other_model(fitted, scene, fake_model):
    image, truth, predictions = scene(42)
    members = {name: fake_model(lambda _, found=found: found) for name, found in predictions.items()}
    model = EnsembleModel(members, fitted.ensemble)
    ((labels, scores),) = model.predict(image)
    assert labels.dtype == np.int32 and scores.dtype == np.float32 and len(scores) == labels.max()
    assert average_precision(truth, labels) > 0.95
    assert average_precision(truth, predictions["big"][0]) < 0.7
    found = model.combine(image)
    sizes = np.bincount(found.labels.ravel())[1:]
    assert found.picked == tuple("big" if size > 100 else "small" for size in sizes)


def test_members_are_identified_by_name_not_by_place(fitted, scene):
    image, _, predictions = scene(43)
    one = fitted.ensemble.combine(image, predictions)
    other = fitted.ensemble.combine(image, dict(reversed(predictions.items())))
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.picked == other.picked


def test_nothing_found_by_one_member_or_by_all(fitted, scene):
    image, truth, predictions = scene(44)
    nothing = np.zeros_like(truth), np.zeros(0, np.float32)
    found = fitted.ensemble.combine(image, {**predictions, "big": nothing})
    assert set(found.picked) == {"small"}
    found = fitted.ensemble.combine(image, {"big": nothing, "small": nothing})
    assert not found.labels.any() and found.scores.shape == (0,) and found.picked == ()


@pytest.mark.parametrize("given", [["big"], ["big", "small", "third"], ["big", "other"], []])
def test_other_members_than_it_was_fitted_with_are_refused(given, fitted, scene, fake_model):
    image, truth, _ = scene(0)
    nothing = np.zeros_like(truth), np.zeros(0)
    with pytest.raises(ValueError, match=r"fitted with big, small\. Received: "):
        fitted.ensemble.combine(image, dict.fromkeys(given, nothing))
    with pytest.raises(ValueError, match="fitted with big, small"):
        EnsembleModel(dict.fromkeys(given, fake_model(lambda _: nothing)), fitted.ensemble)


def test_a_file_gives_the_same_ensemble(fitted, scene, tmp_path):
    image, _, predictions = scene(45)
    path = tmp_path / "new" / "ensemble.json"
    ensemble = replace(fitted.ensemble, rules=Rules(0.25, 0.35, 0.45))
    ensemble.save(path)
    back = read_ensemble(path)
    assert back.rules == ensemble.rules and back.about == ensemble.about and back.groups == ensemble.groups
    one, other = ensemble.combine(image, predictions), back.combine(image, predictions)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("models"), "it lacks 'models'"),
        (lambda content: content.update(format="recipe"), '"format"'),
        (lambda content: content.update(version=2), "version 2; this program reads 1"),
        (lambda content: content.update(members=["big", "big"]), "different names"),
        (lambda content: content.update(members=[]), "different names"),
        (lambda content: content.update(members="big"), "different names"),
        (lambda content: content.update(groups=["shape", "colour"]), "groups of features"),
        (lambda content: content["features"].pop(), "other features"),
        (lambda content: content["rules"].update(threshold=1.5), r"threshold must be a number in 0\.\.1"),
        (lambda content: content["rules"].update(threshold="0.5"), "threshold must be a number"),
        (lambda content: content["rules"].update(speed=1), "speed"),
        (lambda content: content.update(rules=[]), "must be objects"),
        (lambda content: content.update(models=[]), "one at least"),
        (lambda content: content.update(models=[1]), "lists of trees"),
        (lambda content: content["models"][0][0]["left"].reverse(), "hang together"),
        (lambda content: content["models"][0].append(None), "a tree has the lists"),
        (lambda content: content.update(weights={"big": "big.h5"}), '"weights" must name a file for every member'),
        (lambda content: content.update(weights={"big": "big.h5", "small": 1}), '"weights" must name a file'),
        (lambda content: content.update(weights=["big.h5"]), '"weights" must name a file'),
    ],
)
def test_damaged_files_are_named_with_the_cause(change, message, fitted, tmp_path):
    path = tmp_path / "damaged.json"
    fitted.ensemble.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"damaged\.json: not an ensemble's file \(.*{message}"):
        read_ensemble(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000, b"null"])
def test_files_of_anything_else_are_named(content, tmp_path):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.json: not an ensemble's file"):
        read_ensemble(path)

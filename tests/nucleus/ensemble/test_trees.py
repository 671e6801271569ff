"""Trees as arrays predict what LightGBM predicts, whatever the number of threads, and damaged ones are refused."""

import builtins
import sys

import numpy as np
import pytest

from nucleus.ensemble.boosting import BoostingSettings, grow
from nucleus.ensemble.trees import Tree, predict_mean


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 5))
    features[:, 2] = rng.integers(0, 2, 300)
    return features, np.clip(0.3 * features[:, 0] + 0.4 * features[:, 2] + rng.normal(0, 0.05, 300), 0, 1)


def test_they_predict_what_lightgbm_predicts(data, lightgbm, monkeypatch):
    boosters, train = [], lightgbm.train
    monkeypatch.setattr(
        lightgbm, "train", lambda *args, **kwargs: boosters.append(train(*args, **kwargs)) or boosters[-1]
    )
    settings = (BoostingSettings(0.1, 31, 0.6, 20), BoostingSettings(0.2, 4, 1.0, 5))
    models = grow(*data, settings)
    assert [len(trees) for trees in models] == [20, 5]
    unseen = np.random.default_rng(1).normal(size=(200, 5))
    expected = np.mean([booster.predict(unseen) for booster in boosters], axis=0)
    np.testing.assert_allclose(predict_mean(models, unseen), expected, rtol=0, atol=1e-12)
    assert expected.std() > 0.05


def test_threads_change_nothing_and_seeds_do(data, lightgbm):
    settings = (BoostingSettings(0.1, 15, 0.5, 10),)
    one, two, other = (grow(*data, settings, seed, threads) for seed, threads in ((0, 1), (0, 2), (1, 1)))
    values = [[tree.to_json() for tree in models[0]] for models in (one, two, other)]
    assert values[0] == values[1] != values[2]


def test_without_anything_to_split_all_get_the_mean(lightgbm):
    models = grow(np.zeros((3, 2)), np.array([0.1, 0.2, 0.6]), (BoostingSettings(0.1, 7, 1.0, 3),))
    np.testing.assert_allclose(predict_mean(models, np.zeros((4, 2))), 0.3, atol=1e-6)
    assert predict_mean(models, np.zeros((0, 2))).shape == (0,)


def test_a_tree_written_and_read_is_the_same(data, lightgbm):
    tree = grow(*data, (BoostingSettings(0.1, 15, 1.0, 1),))[0][0]
    back = Tree.from_json(tree.to_json(), columns=5)
    np.testing.assert_array_equal(back.predict(data[0]), tree.predict(data[0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature": [0, 2]}, "beyond the 2"),
        ({"feature": [0, -1]}, "beyond the 2"),
        ({"feature": [0, 1.0]}, "whole numbers"),
        ({"feature": [0, True]}, "whole numbers"),
        ({"feature": [0, 2**70]}, "too large"),
        ({"threshold": [0.5]}, "differ in number"),
        ({"threshold": [0.5, float("nan")]}, "not finite"),
        ({"threshold": "0.5"}, "list of numbers"),
        ({"value": [0.1, 0.2]}, "has 3 leaves; found 2"),
        ({"left": [0, -2]}, "hang together"),
        ({"left": [5, -2]}, "hang together"),
        ({"left": [-1, -1]}, "hang together"),
        ({"more": []}, "has the lists"),
    ],
)
def test_damaged_trees_are_refused(changes, message):
    tree = {"feature": [0, 1], "threshold": [0.5, 0.5], "left": [1, -2], "right": [-1, -3], "value": [0.1, 0.2, 0.3]}
    assert Tree.from_json(tree, columns=2).predict(np.array([[0, 0], [0, 1], [1, 0]])).tolist() == [0.2, 0.3, 0.1]
    with pytest.raises(ValueError, match=message):
        Tree.from_json({**tree, **changes}, columns=2)


def test_a_circle_of_splits_is_refused():
    tree = {"feature": [0] * 3, "threshold": [0.5] * 3, "left": [-1, 2, 1], "right": [-2, -3, -4], "value": [0.1] * 4}
    with pytest.raises(ValueError, match="hang together"):
        Tree.from_json(tree, columns=1)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'lightgbm'"), r'pip install "keras-nucleus\[ensemble\]"'),
        (OSError("libgomp.so.1: cannot open shared object file"), "libgomp1"),
    ],
)
def test_where_lightgbm_does_not_load_the_cause_is_reported(error, message, monkeypatch, data):
    load = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "lightgbm":
            raise error
        return load(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "lightgbm", raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=message):
        grow(*data)

"""Finding weights, and the configuration that goes with them."""

import pytest

from nucleus import weights
from nucleus.weights import Recipe, WeightsNotFoundError, existing_file, find_recipe


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"gone\.h5"):
        existing_file(tmp_path / "gone.h5")


def test_shipped_weights_are_the_only_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_shipped_folder", lambda: tmp_path)
    with pytest.raises(WeightsNotFoundError, match="none"):
        weights.shipped_weights()
    touch(tmp_path / "mask_rcnn_coco.h5")
    expected = touch(tmp_path / "nucleus_a.h5")
    assert weights.shipped_weights() == expected
    touch(tmp_path / "nucleus_b.h5")
    with pytest.raises(WeightsNotFoundError, match=r"nucleus_a\.h5, nucleus_b\.h5"):
        weights.shipped_weights()


def test_a_recipe_is_found_beside_the_weights(tmp_path):
    run = tmp_path / "nucleus20240101T0000"
    assert find_recipe(run / "mask_rcnn_nucleus_0001.h5") is None
    recipe = Recipe("resnet101-two-stage", {"TRAIN_BN": None, "STAGES": [["all", 2]], "CLAHE": "True"})
    recipe.save(run)
    # The record of the best epoch that stands beside the weights is no recipe.
    (run / "mask_rcnn_nucleus_best.json").write_text('{"value": 0.5}')
    assert find_recipe(run / "mask_rcnn_nucleus_best.h5") == recipe
    (run / "recipe.json").rename(run / "nucleus_a.recipe.json")
    assert find_recipe(run / "nucleus_a.h5") == recipe
    assert find_recipe(run / "nucleus_b.h5") is None


@pytest.mark.parametrize("text", ["{", "[]", '{"colour": 1}'])
def test_a_damaged_recipe_is_named(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.json"):
        find_recipe(tmp_path / "a.h5")

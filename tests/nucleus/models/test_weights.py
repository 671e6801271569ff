"""Finding weights, and the configuration that goes with them."""

from pathlib import Path

import pytest

from nucleus.commands.ensemble import _member
from nucleus.ensemble.fusion.fused import read_fusion
from nucleus.experiments.comparison.members import Member
from nucleus.models import weights
from nucleus.models.base import plain_settings
from nucleus.models.loading import resolve
from nucleus.models.recipe import LINEAGE_MODEL, Recipe
from nucleus.models.registry import MODELS, NETWORKS, SHIPPED_MODEL, make_config
from nucleus.models.weights import WeightsNotFoundError, choose_recipe, existing_file, find_recipe


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"gone\.h5"):
        existing_file(tmp_path / "gone.h5")


@pytest.mark.parametrize("kind", NETWORKS)
def test_shipped_weights_are_those_of_the_kind(kind):
    path = weights.shipped_weights(kind)
    assert path.is_file() and find_recipe(path).model == kind


def test_there_are_two_defaults_each_named_once():
    """The shipped network where weights are trained on, and the lineage's where nothing says what is meant."""
    assert weights.shipped_weights() == weights.shipped_weights(SHIPPED_MODEL)
    lineage = Recipe(MODELS[LINEAGE_MODEL].default_preset, model=LINEAGE_MODEL)
    assert Recipe() == choose_recipe(None) == lineage
    asked = make_config("training", lineage.preset, model=lineage.model)
    assert plain_settings(make_config("training")) == plain_settings(asked)


def test_the_default_model_computes_in_float32_so_that_it_finds_the_same_nuclei_on_every_processor():
    chosen = resolve()
    assert (chosen.kind, chosen.path) == ("fusion", weights.shipped_default())
    members = [resolve(name.removeprefix("model:")) for name in read_fusion(chosen.path).weights.values()]
    assert sorted(member.kind for member in members) == ["mask_rcnn", "unet"]
    assert {member.config.PRECISION for member in members} == {"float32"}


def test_missing_shipped_weights_are_named_whatever_else_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_shipped_folder", lambda: tmp_path)
    Recipe("small", model="unet").save_beside(touch(tmp_path / "nucleus_mine.h5"))
    for kind in NETWORKS:
        with pytest.raises(WeightsNotFoundError, match=rf"nucleus_\w+\.h5: the shipped weights of a {kind} are"):
            weights.shipped_weights(kind)


OWN = Recipe("plain-bn", {"CLAHE": True}, "unet")


@pytest.mark.parametrize(
    ("found", "model", "preset", "expected"),
    [
        (None, None, None, Recipe("lineage")),
        (None, "unet", None, Recipe("xception-inceptionse", model="unet")),
        (OWN, None, None, OWN),
        (OWN, "unet", None, OWN),
        (OWN, None, "xception", Recipe("xception", model="unet")),
        (OWN, None, "small", Recipe("small", model="unet")),
        (None, None, "small", Recipe("small")),
        (None, None, "fcn8s", Recipe("fcn8s", model="unet")),
        (None, "unet", "small", Recipe("small", model="unet")),
        (OWN, None, "lineage", Recipe("lineage")),
    ],
)
def test_what_is_asked_for_goes_before_the_weights_own(found, model, preset, expected):
    assert choose_recipe(found, model, preset) == expected


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"those of a unet\. Received: model=mask_rcnn"):
        choose_recipe(OWN, "mask_rcnn")
    with pytest.raises(ValueError, match=r"mask_rcnn has no preset 'xception'\. Known: lineage"):
        choose_recipe(None, "mask_rcnn", "xception")
    for found in (None, OWN):
        with pytest.raises(ValueError, match="No model has a preset 'xceptoin'"):
            choose_recipe(found, preset="xceptoin")


@pytest.mark.parametrize(("name", "kept"), [("nucleus_unet", True), ("nucleus_light", False)])
def test_recipes_of_shipped_u_nets_do_not_depend_on_the_default_of_regions_without_a_marker(name, kept):
    """Their thresholds were chosen with these."""
    assert find_recipe(existing_file(name)).settings["KEEP_UNMARKED"] is kept


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


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "property name"),
        ("[]", "expected an object"),
        ('{"colour": 1}', "colour"),
        ('{"model": "segnet"}', "unknown model 'segnet'"),
        ('{"model": ["unet"]}', "unknown model"),
        ('{"preset": 3}', "its preset must be a name"),
        ('{"preset": "fast"}', "Unknown preset 'fast'"),
        ('{"settings": ["CLAHE"]}', "its settings must be an object"),
        ('{"settings": {"CLAHE": "perhaps"}}', "CLAHE needs a value like"),
        ('{"settings": {"DETECTION_MIN_CONFIDENCE": NaN}}', "DETECTION_MIN_CONFIDENCE must be"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_damaged_recipe_is_named(tmp_path, text, cause):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(ValueError, match=rf"recipe\.json: no recipe of a training run \(.*{cause}"):
        find_recipe(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", NETWORKS)
def test_shipped_is_a_name_wherever_a_weights_file_is_taken(tmp_path, kind):
    path = weights.shipped_weights(kind)
    assert weights.existing_file("shipped", kind) == path and weights.is_shipped(path)
    assert weights.starting_weights("shipped", tmp_path, kind) == path
    for source in (None, "shipped"):
        assert resolve(source, model=kind).path == path
        preset = NETWORKS[kind].default_preset
        assert resolve(source, preset=preset).path == path, "the preset is of this kind alone"
    assert Member("one", kind, NETWORKS[kind].default_preset, weights="shipped").file == path


def test_shipped_without_a_kind_is_the_default_also_for_members_of_an_ensemble(tmp_path):
    default = weights.shipped_weights()
    assert weights.existing_file("shipped") == default == weights.existing_file("shipped", "classical")
    assert weights.starting_weights("shipped", tmp_path) == default
    assert _member("a=shipped") == ("a", default) and _member("a=results/a") == ("a", Path("results/a"))
    assert _member("a=nucleus_light") == ("a", weights.shipped_weights("unet"))
    (tmp_path / "own.h5").touch()
    assert not weights.is_shipped(tmp_path / "own.h5")

"""`load_model`: what a name, a file or a folder means, and what is refused."""

import json
import shutil

import keras
import numpy as np
import pytest

from nucleus import cli
from nucleus.commands.arguments import wanted_model
from nucleus.models import weights as weights_module
from nucleus.models.base import plain_settings
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.loading import load_model, resolve
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.recipe import Recipe
from nucleus.models.registry import make_config
from nucleus.models.tiles import Tiles
from nucleus.models.tta import TestTimeAugmentation
from nucleus.models.unet import UNetModel
from nucleus.models.weights import WeightsNotFoundError, shipped_default, shipped_weights
from trainkit.hdf5 import WeightsFileError

IMAGE = np.random.default_rng(2).integers(0, 256, (40, 56, 3), np.uint8)
KINDS = {"mask_rcnn": MaskRCNNModel, "unet": UNetModel}


def bare(model):
    """The model in its tiles, which are the outermost wrapper."""
    assert type(model) is Tiles
    return model.model


def kernels(model):
    return [keras.ops.convert_to_numpy(weight) for weight in bare(model).network.keras_model.weights]


def same_weights(one, other):
    return all(np.array_equal(*pair) for pair in zip(kernels(one), kernels(other), strict=True))


@pytest.fixture
def shipped(tiny_weights, tmp_path, monkeypatch):
    """Lets the tiny networks be those that come with the project."""
    for kind, path in tiny_weights.items():
        name = shipped_weights(kind).stem
        shutil.copyfile(path, tmp_path / f"{name}.h5")
        shutil.copyfile(path.with_suffix(".recipe.json"), tmp_path / f"{name}.recipe.json")
    monkeypatch.setattr(weights_module, "_shipped_folder", lambda: tmp_path)


@pytest.mark.parametrize(("source", "kind"), [("mask_rcnn", "mask_rcnn"), ("unet", "unet")])
def test_the_name_of_a_network_means_what_is_shipped(tiny_weights, shipped, source, kind):
    model = load_model(source)
    assert type(bare(model)) is KINDS[kind] and bare(model).recipe == Recipe("tiny", {"CLAHE": True, "SEED": 3}, kind)
    assert model.config.CLAHE and same_weights(model, load_model(tiny_weights[kind]))
    assert load_model(source, settings={"CLAHE": False}).config.CLAHE is False
    with pytest.raises(WeightsFileError, match=shipped_weights(kind).name):
        load_model(source, preset={"mask_rcnn": "small", "unet": "plain-bn"}[kind])


@pytest.mark.parametrize(
    ("source", "options", "preset"),
    [
        ("classical", {}, "watershed"),
        ("classical/watershed", {}, "watershed"),
        ("classical/otsu", {}, "otsu"),
        ("classical", {"preset": "active-contours"}, "active-contours"),
    ],
)
def test_classical_methods_have_names(source, options, preset):
    model = load_model(source, **options)
    assert type(bare(model)) is ClassicalModel
    expected = make_config("inference", preset, model="classical")
    assert model.config.to_dict() == expected.to_dict()
    changed = load_model(source, **options, settings={"LEVEL": 0.25})
    assert changed.config.to_dict() == {**expected.to_dict(), "LEVEL": 0.25}
    if "/" not in source and not options:
        assert load_model(source, expected).config is expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_weights_file_is_built_by_the_recipe_beside_it(tiny_weights, kind, tmp_path):
    model = load_model(tiny_weights[kind], settings={"MIN_AREA": 3}, model_dir=tmp_path)
    assert type(bare(model)) is KINDS[kind] and (model.config.MIN_AREA, model.config.CLAHE) == (3, True)
    assert bare(model).training_config.MIN_AREA == 3 and bare(model).training_config.SEED == 3
    assert type(load_model(str(tiny_weights[kind]), settings={"TILE_SIZE": 0})) is KINDS[kind]
    assert not list(tmp_path.iterdir()), "nothing is written before a training"

    views = bare(load_model(tiny_weights[kind], settings={"TEST_TIME_AUGMENTATION": "flips"}))
    assert type(views) is TestTimeAugmentation and len(views.views) == 4 and type(views.model) is KINDS[kind]


def test_a_preset_stands_for_a_recipe_that_is_missing(tiny_weights, tmp_path):
    alone = shutil.copyfile(tiny_weights["unet"], tmp_path / "alone.h5")
    with pytest.raises(ValueError, match=r"alone\.h5: no recipe\.json beside it.*preset=.*config="):
        load_model(alone)
    with pytest.raises(ValueError, match="No model has a preset 'tinny'"):
        load_model(alone, preset="tinny")
    Recipe("plain-bn", model="unet").save_beside(alone)
    for options in ({"preset": "tiny"}, {"config": make_config("inference", "tiny", model="unet")}):
        assert same_weights(load_model(alone, **options), load_model(tiny_weights["unet"]))


def as_command(source, *options):
    """Resolves a source as a command does: the file and the configuration, or the message of the refusal."""
    weights = () if source is None else (f"--weights={source}",)
    return outcome(lambda: wanted_model(cli.make_parser().parse_args(["detect", "image.png", *weights, *options])))


def outcome(choose):
    try:
        chosen = choose()
    except ValueError as error:
        return str(error)
    return chosen.path, plain_settings(chosen.config)


def test_commands_and_python_take_and_refuse_the_same_sources(tiny_weights, run_folder, tmp_path):
    alone = shutil.copyfile(tiny_weights["unet"], tmp_path / "alone.h5")
    whole, classical, recipe = tmp_path / "whole.keras", tmp_path / "classical.json", run_folder / "recipe.json"
    bare(load_model(tiny_weights["unet"])).network.save(whole)
    ClassicalModel(settings={"MIN_AREA": 7}).save(classical)
    for source, options, expected in (
        (None, {}, shipped_default()),
        (None, {"model": "unet"}, shipped_weights("unet")),
        (None, {"model": "classical"}, None),
        ("mask_rcnn", {}, shipped_weights("mask_rcnn")),
        ("nucleus_light", {}, shipped_weights("unet")),
        ("classical/otsu", {}, None),
        (tiny_weights["unet"], {"settings": {"MIN_AREA": 3}}, tiny_weights["unet"]),
        (run_folder, {}, run_folder / "unet_nucleus_best.h5"),
        (whole, {"settings": {"MIN_AREA": 3}}, whole),
        (classical, {}, classical),
        (alone, {"preset": "tiny", "model": "unet"}, alone),
        (alone, {"model": "unet"}, alone),
        (alone, {}, "alone.h5: no recipe.json beside it names its network. Name it: preset=... or model=..."),
        (tmp_path / "gone.h5", {}, "no such weights file"),
        (tmp_path, {}, "no weights of a training run are in this folder"),
        (recipe, {}, "the recipe of a unet; name its weights file"),
        (whole, {"preset": "tiny"}, "holds its configuration"),
        (whole, {"model": "mask_rcnn"}, "holds a unet. Received: model=mask_rcnn"),
        (classical, {"preset": "otsu"}, "holds its configuration"),
        (classical, {"model": "unet"}, "those of a classical. Received: model=unet"),
        ("classical/otsu", {"model": "unet"}, "classical/otsu names a classical. Received: model=unet"),
        ("unet", {"model": "mask_rcnn"}, "those of a unet. Received: model=mask_rcnn"),
        (alone, {"preset": "otsu"}, "classical has no weights. Received: "),
    ):
        settings = [f"--set={name}={value}" for name, value in options.get("settings", {}).items()]
        named = [f"--{name}={value}" for name, value in options.items() if name != "settings"]
        found = outcome(lambda source=source, options=options: resolve(source, **options))
        by_command = as_command(source, *named, *settings)
        assert found == by_command
        assert found[0] == expected if isinstance(found, tuple) else str(expected) in found, (source, options, found)


def test_last_is_the_last_checkpoint_of_the_latest_run(run_folder, tmp_path):
    assert resolve("last", model_dir=tmp_path).path == run_folder / "unet_nucleus_10000.h5"
    assert as_command("last", f"--logs={tmp_path}")[0] == run_folder / "unet_nucleus_10000.h5"
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_model("last", model_dir=tmp_path / "nowhere")


def test_a_command_does_not_guess_the_network_of_weights_without_a_recipe(tiny_weights, tmp_path, capsys):
    """A lineage Mask R-CNN was assumed, and a recipe of it packed beside any weights."""
    alone = shutil.copyfile(tiny_weights["unet"], tmp_path / "alone.h5")
    for command in (["detect", "image.png"], ["pack", f"--output={tmp_path / 'packed.h5'}"], ["evaluate"]):
        assert cli.main([*command, f"--weights={alone}"]) == 1
        assert "alone.h5: no recipe.json beside it names its network" in capsys.readouterr().err
    assert resolve(alone, preset="lineage").recipe == Recipe("lineage", model="mask_rcnn")
    assert [path.name for path in tmp_path.iterdir()] == ["alone.h5"]


def test_a_model_of_a_configuration_alone_detects_only(tiny_weights, tmp_path):
    alone = shutil.copyfile(tiny_weights["unet"], tmp_path / "alone.h5")
    model = load_model(alone, make_config("inference", "tiny", model="unet"))
    assert len(model.predict(IMAGE)) == 1
    for use in (lambda: model.fit(None, None), lambda: model.save(tmp_path / "new.h5")):
        with pytest.raises(ValueError, match="made from a configuration alone"):
            use()


@pytest.fixture
def run_folder(tiny_weights, tmp_path):
    """A run of a U-Net, whose checkpoints differ in the bias of the last layer: 9, 10, and 5 for the best."""
    folder = tmp_path / "nucleus20240101T0000"
    model = bare(load_model(tiny_weights["unet"]))
    for name, bias in (("0009", 9), ("10000", 10), ("best", 5)):
        layer = model.network.keras_model.get_layer("logits")
        layer.bias.assign(np.full(layer.bias.shape, bias, np.float32))
        model.network.save_weights(folder / f"unet_nucleus_{name}.h5")
    model.recipe.save(folder)
    return folder


def test_a_runs_folder_means_its_best_weights_else_the_last(run_folder):
    def bias():
        return float(bare(load_model(run_folder)).network.keras_model.get_layer("logits").bias[0])

    assert bias() == 5
    (run_folder / "unet_nucleus_best.h5").unlink()
    assert bias() == 10
    (run_folder / "unet_nucleus_10000.h5").unlink()
    assert bias() == 9
    (run_folder / "unet_nucleus_0009.h5").unlink()
    with pytest.raises(WeightsNotFoundError, match="nucleus20240101T0000: no weights of a training run"):
        load_model(run_folder)


def test_a_keras_file_holds_network_and_settings(tiny_weights, tmp_path):
    model = load_model(tiny_weights["unet"])
    bare(model).network.save(tmp_path / "whole.keras")
    whole = load_model(tmp_path / "whole.keras", settings={"MIN_AREA": 3})
    assert type(bare(whole)) is UNetModel and (whole.config.CLAHE, whole.config.MIN_AREA) == (True, 3)
    assert same_weights(whole, model)
    with pytest.raises(WeightsFileError, match=r"whole\.keras: .*another network"):
        load_model(tmp_path / "whole.keras", settings={"IMAGE_CHANNEL_COUNT": 1})
    with pytest.raises(ValueError, match=r"whole\.keras: pack takes the weights of a network"):
        cli.main(["pack", f"--weights={tmp_path / 'whole.keras'}", f"--output={tmp_path / 'a.h5'}", "--debug"])
    again = load_model(tmp_path / "whole.keras").predict(IMAGE)[0]
    for one, other in zip(again, model.predict(IMAGE)[0], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("source", ["mask-rcnn", "unet/small", "gone.h5", "Classical"])
def test_what_is_neither_a_name_nor_a_file_is_refused_with_the_names(source):
    with pytest.raises(
        WeightsNotFoundError,
        match=rf"{source}: no such weights.*mask_rcnn, unet, classical, ensemble, fusion, classical/",
    ):
        load_model(source)


def test_what_contradicts_itself_or_has_no_effect_is_refused(tiny_weights, tmp_path):
    otsu = make_config("inference", "otsu", model="classical")
    unet = make_config("inference", "tiny", model="unet")
    ClassicalModel().save(tmp_path / "classical.json")
    bare(load_model(tiny_weights["unet"])).network.save(tmp_path / "whole.keras")
    for source, options, message in (
        (tiny_weights["unet"], {"config": unet, "preset": "tiny"}, "Received: both"),
        (tiny_weights["unet"], {"config": unet, "settings": {"MIN_AREA": 3}}, "Received: both"),
        ("classical", {"config": otsu, "settings": {"LEVEL": 0.1}}, "Received: both"),
        ("classical/watershed", {"config": otsu}, "classical/watershed names the preset"),
        ("classical/watershed", {"preset": "otsu"}, "classical/watershed names the preset"),
        ("classical/nothing", {}, "classical has no preset 'nothing'. Known: otsu"),
        (tmp_path / "classical.json", {"preset": "otsu"}, "holds its configuration"),
        (tmp_path / "classical.json", {"config": otsu}, "holds its configuration"),
        (tmp_path / "whole.keras", {"config": unet}, "holds its configuration"),
        (tiny_weights["unet"], {"config": otsu}, r"classical has no weights\. Received: .*unet\.h5"),
        (tiny_weights["mask_rcnn"], {"config": unet}, "weights are those of a mask_rcnn, the configuration a unet"),
        (tiny_weights["unet"], {"settings": {"OVERLAP_RULE": "score"}}, "OVERLAP_RULE"),
    ):
        with pytest.raises(ValueError, match=message):
            load_model(source, **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"preset": "small", "settings": {}, "model": "unet"}), r"a\.json: the recipe of a unet; name its"),
        ("{", r"a\.json: no recipe"),
        ('{"preset": "otsu", "settings": {"COLOUR": 1}, "model": "classical"}', "COLOUR"),
    ],
)
def test_a_json_file_of_something_else_is_refused(content, message, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path / "a.json")

"""Exported U-Nets answer as the original, carry its recipe, and need neither Keras nor TensorFlow."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import cv2
import h5py
import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from nucleus import export, load_model, shipped_data
from nucleus.cli import main
from nucleus.datasets.folds import Folds, find_folds, folds_beside
from nucleus.evaluation.scores import average_precision
from nucleus.images.reading import read_labels
from nucleus.models.base import NucleusModel
from nucleus.models.loading import resolve
from nucleus.models.onnx import RECIPE_NOTE, OnnxModel
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS
from nucleus.models.weights import find_recipe
from nucleus.models.wrapper import Wrapper
from trainkit.onnx_files import read_metadata

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow exports")
# Rounding of float32 in another order.
TOLERANCE = 1e-5
GOLDEN = Path(__file__).parents[1] / "golden" / "light"


@pytest.fixture(scope="module")
def tiny_onnx(tiny_files, module_presets, tmp_path_factory) -> Path:
    """The tiny U-Net as an ONNX file, with another threshold."""
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    return export(tiny_files["unet"], path, settings={"MASK_THRESHOLD": 0.4})


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def bare(model: NucleusModel) -> NucleusModel:
    while isinstance(model, Wrapper):
        model = model.model
    return model


def channels_of(model, images):
    return bare(model).network.predict(images)


def test_an_onnx_file_answers_as_the_network_at_any_size_and_in_batches(tiny_files, tiny_onnx):
    images = [pixels(*shape) for shape in ((64, 64), (64, 64), (64, 64), (33, 90), (1, 7), (128, 40))]
    original, exported = (channels_of(load_model(path), images) for path in (tiny_files["unet"], tiny_onnx))
    for ours, theirs in zip(original, exported, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)


def test_an_onnx_file_leaves_batch_height_and_width_open_and_is_valid(tiny_onnx):
    graph = onnx.load(tiny_onnx).graph
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {"image": ["batch", "height", "width", 3], "probabilities": ["batch", "height", "width", 3]}
    onnx.checker.check_model(onnx.load(tiny_onnx), full_check=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"DECODER": "fpn", "PADDING": "symmetric", "ACTIVATION": "elu"},
        {"DECODER": "fcn8s", "ENCODER_FILTERS": (4, 4, 4, 4), "DECODER_FILTERS": (8, 8), "BATCH_NORM": False},
        {"DECODER": "plain", "ENCODER_FILTERS": (4, 6), "DECODER_FILTERS": None, "DROPOUT": 0.5},
        {"PRECISION": "mixed_bfloat16"},
    ],
)
def test_every_decoder_and_precision_exports(settings, module_presets, tmp_path):
    model = NETWORKS["unet"].begin(Recipe("tiny", settings, "unet"), tmp_path)
    path = export(model, tmp_path / "network.onnx")
    images = [pixels(64, 96)]
    (expected,) = channels_of(model, images)
    (found,) = channels_of(load_model(path), images)
    exact = settings.get("PRECISION") is None
    np.testing.assert_allclose(found, expected, atol=TOLERANCE if exact else 0.05)
    assert load_model(path).config.PRECISION == "float32", "what the file computes in"


def test_the_file_carries_all_settings_of_the_detection(tiny_files, tiny_onnx):
    note = json.loads(read_metadata(tiny_onnx)[RECIPE_NOTE])
    assert (note["preset"], note["model"]) == ("tiny", "unet")
    original, exported = load_model(tiny_files["unet"]).config, load_model(tiny_onnx).config
    assert exported.MASK_THRESHOLD == 0.4 and exported.CLAHE
    for name, value in original.to_dict().items():
        if name != "MASK_THRESHOLD":
            assert getattr(exported, name) == value, name
    assert find_recipe(tiny_onnx).settings["MASK_THRESHOLD"] == 0.4


def test_tiles_scale_views_and_post_processing_are_those_of_the_original(tiny_files, tiny_onnx):
    settings = {"TEST_TIME_AUGMENTATION": "flips", "TILE_SIZE": 64, "TILE_OVERLAP": 32, "SCALE": 1.5}
    settings |= {"MASK_THRESHOLD": 0.5, "MIN_AREA": 3}
    image = pixels(150, 110)
    original, exported = (
        load_model(path, settings=settings).predict(image)[0] for path in (tiny_files["unet"], tiny_onnx)
    )
    assert original.labels.max() > 0
    assert average_precision(original.labels, exported.labels) > 0.99


def test_settings_that_the_exported_network_has_fixed_cannot_be_changed(tiny_onnx):
    with pytest.raises(ValueError, match=r"TARGETS is part of the exported network.*Received: 'mask'"):
        load_model(tiny_onnx, settings={"TARGETS": "mask", "POSTPROCESS": "components"})
    with pytest.raises(ValueError, match="PRECISION is part"):
        load_model(tiny_onnx, settings={"PRECISION": "mixed_bfloat16"})
    with pytest.raises(ValueError, match="holds its configuration"):
        load_model(tiny_onnx, preset="small")


def test_an_exported_network_does_not_learn_and_saves_with_its_present_settings(tiny_onnx, tmp_path):
    model = load_model(tiny_onnx, settings={"MASK_THRESHOLD": 0.3})
    with pytest.raises(ValueError, match="cannot learn"):
        model.fit(None, None)
    model.save(tmp_path / "other.onnx")
    again = load_model(tmp_path / "other.onnx")
    ours, theirs = again.model.describe(), model.model.describe()
    assert ours["exported"] != theirs["exported"], "results say which file made them"
    assert ours["weights"] == theirs["weights"]
    assert again.config.MASK_THRESHOLD == 0.3
    assert (again.predict(pixels(50, 50))[0].labels == model.predict(pixels(50, 50))[0].labels).all()


def test_a_saved_model_answers_as_the_network(tiny_files, module_presets, tmp_path):
    import tensorflow as tf

    folder = export(tiny_files["unet"], tmp_path / "saved", "savedmodel")
    images = np.stack([pixels(64, 96)] * 2).astype(np.float32)
    loaded = tf.saved_model.load(folder)
    found = loaded.serve(images).numpy()
    np.testing.assert_allclose(found, channels_of(load_model(tiny_files["unet"]), list(images)), atol=TOLERANCE)
    assert json.loads((folder / "assets.extra" / "recipe.json").read_text())["settings"]["CLAHE"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    with pytest.raises(ValueError, match="exists"):
        export(tiny_files["unet"], folder, "savedmodel")


@pytest.fixture(scope="module")
def package(tiny_files, module_presets, tmp_path_factory) -> Path:
    """The tiny U-Net as a package of the BioImage Model Zoo."""
    return export(tiny_files["unet"], tmp_path_factory.mktemp("zoo") / "tiny.zip", "bioimageio")


def test_a_package_of_the_model_zoo_holds_an_image_with_the_answer_of_its_network(package, tmp_path):
    import yaml

    with zipfile.ZipFile(package) as archive:
        archive.extractall(tmp_path)
    described = yaml.safe_load((tmp_path / "rdf.yaml").read_text())
    (taken,), (given,) = described["inputs"], described["outputs"]
    image, expected = (np.load(tmp_path / tensor["test_tensor"]["source"]) for tensor in (taken, given))
    session = onnxruntime.InferenceSession(tmp_path / described["weights"]["onnx"]["source"])
    (found,) = session.run(None, {taken["id"]: image})
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert expected.std() > 0 and image.std() > 0
    assert described["config"]["keras_nucleus"]["recipe"]["settings"]["CLAHE"] is True
    assert "CLAHE" in (tmp_path / "README.md").read_text()


def test_a_package_of_the_model_zoo_follows_its_specification(package):
    from bioimageio.spec import load_description

    summary = load_description(package).validation_summary
    assert summary.status == "valid-format", summary.format()


@pytest.mark.parametrize(
    ("model", "path", "format", "message"),
    [
        ("unet", "a.h5", "onnx", r"ends in \.onnx"),
        ("unet", "a.onnx", "bioimageio", r"ends in \.zip"),
        ("unet", "a.onnx", "tflite", "onnx, savedmodel, bioimageio"),
        ("classical/otsu", "a.onnx", "onnx", "Only U-Nets and Mask R-CNNs are exported.*ClassicalModel"),
        ("tiny.onnx", "a.onnx", "onnx", "Only U-Nets and Mask R-CNNs are exported.*OnnxModel"),
    ],
)
def test_errors_say_what_can_be_exported(model, path, format, message, tiny_files, tiny_onnx, tmp_path):
    source = {"unet": tiny_files["unet"], "tiny.onnx": tiny_onnx}.get(model, model)
    with pytest.raises(ValueError, match=message):
        export(source, tmp_path / path, format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["tf2onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(missing, tiny_files, tiny_onnx, tmp_path, monkeypatch):
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find_spec(name))
    with pytest.raises(ValueError, match=rf"{missing}. pip install .keras-nucleus\[(export|onnx)\]"):
        if missing == "tf2onnx":
            export(tiny_files["unet"], tmp_path / "a.onnx")
        else:
            load_model(tiny_onnx)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "foreign"])
def test_a_damaged_or_foreign_onnx_file_is_named(damage, tiny_onnx, tmp_path):
    path = tmp_path / "bad.onnx"
    whole = tiny_onnx.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"no model", "empty": b"", "foreign": b""}[damage])
    if damage == "foreign":
        model = onnx.load(tiny_onnx)
        del model.metadata_props[:]
        onnx.save(model, path)
    with pytest.raises(ValueError, match=r"bad\.onnx"):
        load_model(path)


def test_the_command_exports_with_settings_and_folds(tiny_files, module_presets, tmp_path, capsys):
    weights = tmp_path / "mine.h5"
    weights.write_bytes(tiny_files["unet"].read_bytes())
    recipe = tiny_files["unet"].with_suffix(".recipe.json")
    weights.with_suffix(".recipe.json").write_bytes(recipe.read_bytes())
    folds = Folds((("a", "b"), ("c",)), held_out=1)
    folds.save(folds_beside(weights))
    output = tmp_path / "out" / "mine.onnx"
    assert main(["export", f"--weights={weights}", f"--output={output}", "--set=MIN_AREA=7"]) == 0
    assert str(output) in capsys.readouterr().out
    assert load_model(output).config.MIN_AREA == 7
    assert find_folds(output) == folds


BLOCKED = """
    import sys
    from importlib.abc import MetaPathFinder

    class Block(MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("tensorflow", "keras", "jax", "torch", "tf2onnx"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Block())
    from nucleus.cli import main

    sys.exit(main(sys.argv[1:]))
"""


def without_keras(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process that cannot import Keras or a backend."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BLOCKED), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )


@pytest.fixture
def beside(tiny_files, tiny_onnx, tmp_path, monkeypatch) -> Path:
    """A weights file with the file that was exported from it beside it."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr("nucleus.models.onnx._GPU_DEVICES", ())
    weights = tmp_path / "mine.h5"
    sources = {".h5": tiny_files["unet"], ".onnx": tiny_onnx}
    for suffix, source in {**sources, ".recipe.json": tiny_files["unet"].with_suffix(".recipe.json")}.items():
        weights.with_suffix(suffix).write_bytes(source.read_bytes())
    return weights


def test_detect_runs_the_exported_file_beside_the_weights(beside, tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "a.png"), pixels(70, 90))
    keras_taken = pytest.fail
    monkeypatch.setattr("nucleus.commands.arguments.import_keras", keras_taken)
    monkeypatch.setattr("nucleus.models.loading.import_keras", keras_taken)
    assert main(["detect", str(tmp_path / "a.png"), f"--weights={beside}", f"--output={tmp_path / 'out'}"]) == 0
    assert resolve(beside).fastest().path.suffix == ".onnx"
    assert resolve(beside, settings={"MIN_AREA": 3}).fastest().config.MIN_AREA == 3, "settings are those asked for"


def test_an_exported_file_is_not_taken_where_it_computes_something_else(beside, monkeypatch, caplog):
    assert resolve(beside, settings={"PRECISION": "mixed_bfloat16"}).fastest().path == beside
    monkeypatch.setattr("nucleus.models.onnx._GPU_DEVICES", (beside,))
    assert resolve(beside).fastest().path == beside, "a GPU is faster"
    monkeypatch.undo()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert resolve(beside).fastest().path == beside, "the user chose a backend"
    monkeypatch.delenv("KERAS_BACKEND")
    missing = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else missing(name))
    with caplog.at_level("INFO"):
        assert resolve(beside).fastest().path == beside
    assert "onnxruntime is not installed" in caplog.text
    monkeypatch.undo()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_an_exported_file_of_other_weights_is_left_aside_with_a_warning(beside, caplog):
    with open(beside, "ab") as file:
        file.write(b"other weights")
    assert resolve(beside).fastest().path == beside
    assert "mine.onnx: is not used: it was exported from other weights" in caplog.text
    assert f"nucleus export --weights={beside}" in caplog.text


@pytest.fixture(scope="module")
def graph(tiny_files, module_presets, tmp_path_factory) -> Path:
    """A weights file with the graph beside it that was exported without weights."""
    weights = tmp_path_factory.mktemp("graph") / "mine.h5"
    for suffix in (".h5", ".recipe.json"):
        weights.with_suffix(suffix).write_bytes(tiny_files["unet"].with_suffix(suffix).read_bytes())
    export(weights, weights.with_suffix(".onnx"), graph_only=True)
    return weights


@pytest.fixture
def copied_graph(graph, tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr("nucleus.models.onnx._GPU_DEVICES", ())
    for suffix in (".h5", ".recipe.json", ".onnx"):
        shutil.copy(graph.with_suffix(suffix), tmp_path)
    return tmp_path / graph.name


def test_a_graph_computes_with_whatever_weights_of_its_architecture_stand_beside_it(copied_graph, caplog):
    with h5py.File(copied_graph, "r+") as file:
        arrays = []
        file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        for number, array in enumerate(arrays):
            array[...] = array[()] * np.float32(1 + number / len(arrays))
    (chosen, keras_model) = (resolve(copied_graph).fastest(), load_model(copied_graph))
    assert chosen.path == copied_graph.with_suffix(".onnx") and not caplog.records
    exported, images = chosen.load(), [pixels(64, 96)]
    (ours,), (theirs,) = channels_of(keras_model, images), channels_of(exported, images)
    np.testing.assert_allclose(theirs, ours, atol=TOLERANCE)
    assert bare(exported).describe()["weights"] == bare(keras_model).describe()["weights"]
    # Saved elsewhere, it has the weights in it.
    other = copied_graph.with_name("other.onnx")
    exported.save(other)
    (again,) = channels_of(load_model(other), images)
    assert (again == theirs).all()
    assert bare(load_model(other)).describe()["weights"] == bare(keras_model).describe()["weights"]


def test_a_graph_beside_another_network_is_left_aside_with_a_warning_and_refused_by_name(copied_graph, caplog):
    path = copied_graph.with_suffix(".onnx")
    with h5py.File(copied_graph, "r+") as file:
        name = next(layer for layer in file if "kernel:0" in file[layer].get(layer, {}))
        place = f"{name}/{name}/kernel:0"
        values = file[place][()]
        del file[place]
        file[place] = values[..., :1]
    assert resolve(copied_graph).fastest().path == copied_graph
    assert "is not used" in caplog.text and place in caplog.text
    with pytest.raises(ValueError, match=rf"mine\.h5: holds another network.*{place}"):
        load_model(path)
    copied_graph.unlink()
    with pytest.raises(ValueError, match=r"mine\.h5: there is no such weights file"):
        load_model(path)


def test_a_graph_without_weights_is_written_beside_its_weights_file_only(graph, tmp_path):
    with pytest.raises(ValueError, match=r"stands beside its weights file: .*mine\.onnx"):
        export(graph, tmp_path / "mine.onnx", graph_only=True)
    with pytest.raises(ValueError, match=r"is an ONNX file of a network in a weights file.*savedmodel"):
        export(graph, tmp_path / "saved", "savedmodel", graph_only=True)
    with pytest.raises(ValueError, match="Received: a loaded model"):
        export(load_model(graph), graph.with_suffix(".onnx"), graph_only=True)


def test_the_shipped_model_detects_the_same_nuclei_without_keras_and_tensorflow(tmp_path):
    """Compares with the golden labels, which the network in Keras found."""
    path = export("nucleus_light", tmp_path / "light.onnx")
    golden = sorted(GOLDEN.glob("*.png"))[:2]
    images = [next(shipped_data().glob(f"stage1_train/*/images/{labels.name}")) for labels in golden]
    output = tmp_path / "found"
    done = without_keras("detect", *images, f"--weights={path}", f"--output={output}", "--write=labels")
    assert done.returncode == 0, done.stderr
    for labels in golden:
        expected, found = read_labels(labels), read_labels(output / "labels" / labels.name)
        assert expected.max() > 3 and average_precision(expected, found) > 0.95
    assert isinstance(bare(load_model(path)), OnnxModel)


def test_a_model_in_keras_says_what_it_needs_where_there_is_none():
    image = min(shipped_data().glob("stage1_train/*/images/*.png"))
    done = without_keras("detect", image, "--weights=nucleus_unet")
    assert done.returncode == 1
    assert "keras is not installed" in done.stderr and "--weights=MODEL.onnx" in done.stderr
    assert "Traceback" not in done.stderr

"""An exported Mask R-CNN finds the nuclei of the original in images of any size, and without Keras."""

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest

from mrcnn.anchors import normalized_anchors
from mrcnn.image_meta import resize_for_network
from mrcnn.onnx_model import INPUTS
from nucleus import export, load_model, read_image, shipped_data
from nucleus.cli import main
from nucleus.evaluation.scores import average_precision
from nucleus.images.reading import read_labels
from nucleus.images.writing import write_rgb
from nucleus.models.base import NucleusModel
from nucleus.models.loading import resolve
from nucleus.models.mask_rcnn_presets import PRESETS
from nucleus.models.onnx import OnnxInstanceModel
from nucleus.models.wrapper import Wrapper

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow exports")
# Boxes are painted as a whole: the masks of random weights are nearly empty.
SETTINGS = {"MIN_AREA": 3, "DETECTION_MASK_THRESHOLD": 1e-6, "IMAGE_MIN_DIM": 64, "ROI_ALIGNED": True}


@pytest.fixture(scope="module")
def exported(tiny_files, module_presets, tmp_path_factory) -> Path:
    """The graph of the tiny Mask R-CNN with other settings, written by the command beside its weights."""
    folder = tmp_path_factory.mktemp("exported")
    for suffix in (".h5", ".recipe.json"):
        shutil.copy(tiny_files["mask_rcnn"].with_suffix(suffix), folder / f"tiny{suffix}")
    path, settings = folder / "tiny.onnx", [f"--set={name}={value}" for name, value in SETTINGS.items()]
    assert main(["export", f"--weights={folder / 'tiny.h5'}", f"--output={path}", "--graph-only", *settings]) == 0
    return path


@pytest.fixture(scope="module")
def original(tiny_files, module_presets) -> NucleusModel:
    return bare(load_model(tiny_files["mask_rcnn"], settings=SETTINGS))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A shipped image of 256 x 256 pixels or more."""
    return read_image(min(shipped_data().glob("stage1_train/*/images/*.png")))[:256, :256]


def bare(model: NucleusModel) -> NucleusModel:
    while isinstance(model, Wrapper):
        model = model.model
    return model


def test_the_file_finds_the_nuclei_of_the_original_in_images_of_any_size(original, exported, image):
    model = bare(load_model(exported))
    assert isinstance(model, OnnxInstanceModel) and model.config.MIN_AREA == 3
    parts = (
        image[:128, :128],
        image[100:200, 100:210],
        image[60:120, 100:220],
        image[:100, 150:205],
        image[:180, :250],
    )
    images = [original.prepare(part) for part in parts]
    sizes = [resize_for_network(part, original.config)[0].shape[:2] for part in images]
    assert sizes == [(128, 128), (128, 128), (64, 128), (128, 64), (192, 256)]
    for ours, theirs in zip(original._predict(images), model._predict(images), strict=True):
        assert ours.labels.max() >= 1
        assert average_precision(ours.labels, theirs.labels) > 0.98
    for ((boxes, _, scores),), ((their_boxes, _, their_scores),) in zip(
        original.observe(images), model.observe(images), strict=True
    ):
        assert len(boxes) > 3
        np.testing.assert_allclose(their_scores, scores, atol=1e-3)
        np.testing.assert_allclose(their_boxes, boxes, atol=1)


def test_the_graph_holds_no_weights_and_is_known_as_the_weights_beside_it(original, exported):
    stored = [each for each in onnx.load(exported, load_external_data=False).graph.initializer if each.dims]
    assert sum(np.prod(each.dims) for each in stored if not each.external_data) < 2000
    assert bare(load_model(exported)).describe()["weights"] == original.describe()["weights"]


def test_the_file_has_no_operations_of_other_domains(exported):
    graph = onnx.load(exported, load_external_data=False)
    assert {entry.domain for entry in graph.opset_import} <= {"", "ai.onnx.ml"}
    assert "NonMaxSuppression" in {node.op_type for node in graph.graph.node}


def test_a_saved_model_answers_as_the_file(tiny_files, exported, module_presets, image, tmp_path):
    import tensorflow as tf

    folder = export(tiny_files["mask_rcnn"], tmp_path / "saved", "savedmodel", settings=SETTINGS)
    model = bare(load_model(exported))
    pixels = image[None, :128, :192].astype(np.float32)
    anchors = normalized_anchors(model.config, pixels.shape[1:])[None]
    values = [pixels, np.float32([[0, 0, 128, 192]]), anchors]
    loaded = tf.saved_model.load(folder)
    detections, masks = loaded.serve(values)
    expected = model.network._session.run(dict(zip(INPUTS, values, strict=True)))
    np.testing.assert_allclose(detections.numpy(), expected[0], atol=1e-4)
    np.testing.assert_allclose(masks.numpy(), expected[1], atol=1e-3)


def test_what_the_exported_network_has_fixed_cannot_be_changed(exported, tiny_files, tmp_path):
    with pytest.raises(ValueError, match=r"DETECTION_NMS_THRESHOLD is part of the exported network"):
        load_model(exported, settings={"DETECTION_NMS_THRESHOLD": 0.9})
    with pytest.raises(ValueError, match=r"holds a unet.*Received: a mask_rcnn; export it as onnx or savedmodel"):
        export(tiny_files["mask_rcnn"], tmp_path / "a.zip", "bioimageio")


def test_a_preset_that_has_changed_since_does_not_change_what_the_file_says_of_itself(exported, monkeypatch):
    """It did: 1,000 proposals of an exported network were taken for the 2,000 of the preset."""
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr("nucleus.models.onnx._GPU_DEVICES", ())
    weights = exported.with_suffix(".h5")
    assert resolve(weights, settings=SETTINGS).fastest().path == exported
    tiny = PRESETS["tiny"]
    then = load_model(exported).config.POST_NMS_ROIS_INFERENCE
    changed = {**tiny.settings, "POST_NMS_ROIS_INFERENCE": then + 7}
    monkeypatch.setitem(PRESETS, "tiny", replace(tiny, settings=changed))
    chosen = resolve(weights, settings=SETTINGS)
    proposals = chosen.config.POST_NMS_ROIS_INFERENCE
    assert proposals == then + 7
    assert chosen.fastest().path == weights
    found = load_model(exported).config.POST_NMS_ROIS_INFERENCE
    assert found == then


WITHOUT_KERAS = """
    import sys
    from importlib.abc import MetaPathFinder

    class Block(MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("tensorflow", "keras", "jax", "torch", "tf2onnx"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Block())
    from nucleus.cli import main
    from nucleus.models.mask_rcnn_presets import PRESETS
    from trainkit.presets import Preset

    PRESETS["tiny"] = Preset("", "", %r)
    sys.exit(main(sys.argv[1:]))
"""


def test_the_file_detects_without_keras_and_tensorflow(original, exported, image, tmp_path):
    write_rgb(tmp_path / "cells.png", image[:128, :128])
    # The backbone is in the file.
    settings = {name: value for name, value in PRESETS["tiny"].settings.items() if name != "BACKBONE"}
    code = textwrap.dedent(WITHOUT_KERAS) % settings
    arguments = ["detect", tmp_path / "cells.png", f"--weights={exported}", f"--output={tmp_path / 'found'}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), "--write=labels"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (expected,) = original.predict(image[:128, :128])
    found = read_labels(tmp_path / "found" / "labels" / "cells.png")
    assert average_precision(expected.labels, found) > 0.98

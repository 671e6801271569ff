"""Whole models in Keras's files: detection loads in a new process and answers as before, training says it cannot."""

import importlib
import pkgutil
import subprocess
import sys

import keras
import numpy as np
import pytest

import mrcnn
import trainkit
import unet
from mrcnn.exporting import ExportedDetector
from mrcnn.extent import _OfExtent
from mrcnn.layers import Float32Layer
from mrcnn.model import MaskRCNN
from mrcnn.training_model import TrainingModel
from trainkit.compiled import compile_inference
from trainkit.folding import FoldedConvolution

LOAD = """
import sys
import keras, numpy as np
import mrcnn.model
from trainkit.compiled import compile_inference
from trainkit.folding import FoldedConvolution
inputs = np.load("inputs.npz")
for name in sys.argv[1:]:
    model = keras.saving.load_model(name, compile=False)
    answers = compile_inference(model)(inputs["molded"], inputs["metas"], inputs["anchors"])
    np.savez(name + ".npz", *[keras.ops.convert_to_numpy(answer) for answer in answers])
"""


@pytest.mark.backend
def test_a_saved_detector_answers_equally_in_a_new_process(detector, shapes, tmp_path):
    molded, metas, _ = detector.mold_inputs([shapes().load_image(0)])
    inputs = molded, metas, detector.get_anchors(molded.shape[1:])[None]
    np.savez(tmp_path / "inputs.npz", molded=inputs[0], metas=inputs[1], anchors=inputs[2])
    expected = [keras.ops.convert_to_numpy(output) for output in compile_inference(detector.keras_model)(*inputs)]
    for name in ("model.keras", "model.h5"):
        detector.keras_model.save(tmp_path / name)
    # What this protects are registrations, which this process has already.
    subprocess.run([sys.executable, "-c", LOAD, "model.keras", "model.h5"], cwd=tmp_path, check=True)
    for name in ("model.keras", "model.h5"):
        with np.load(tmp_path / f"{name}.npz") as found:
            assert len(found) == len(expected)
            for index, output in enumerate(expected):
                np.testing.assert_allclose(found[f"arr_{index}"], output, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("save", [lambda model, path: model.save(path), keras.saving.save_model])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_saving_a_training_graph_says_what_can_be_saved(tiny_config, tmp_path_factory, training_graph, save, suffix):
    folder = tmp_path_factory.mktemp("saved")
    with pytest.raises(NotImplementedError, match=r'save_weights.*MaskRCNN\("inference"'):
        save(training_graph, folder / f"model{suffix}")


@pytest.fixture(scope="module")
def training_graph(tiny_config, tmp_path_factory):
    return MaskRCNN("training", tiny_config(), tmp_path_factory.mktemp("logs")).keras_model


def test_every_keras_object_of_the_libraries_is_registered():
    """`TrainingModel` refuses to be saved; folded layers and `ExportedDetector` are in no model that a user holds."""
    for package in (mrcnn, unet, trainkit):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    own, waiting = set(), [keras.Layer, keras.losses.Loss, keras.metrics.Metric, keras.optimizers.Optimizer]
    waiting += [keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint]
    waiting += [keras.optimizers.schedules.LearningRateSchedule]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            waiting.append(kind)
            if kind.__module__.startswith(("mrcnn.", "unet.", "trainkit.")):
                own.add(kind)
    unregistered = {kind for kind in own if keras.saving.get_registered_name(kind) == kind.__name__}
    assert len(own) > 20
    assert unregistered == {TrainingModel, FoldedConvolution, ExportedDetector, Float32Layer, _OfExtent}

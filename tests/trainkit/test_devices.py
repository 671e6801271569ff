"""Two devices learn the weights that one learns from the whole batch; a setting that cannot be followed is refused."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.model import MaskRCNN
from trainkit.devices import DevicesError, building_on
from trainkit.settings import SettingsError
from unet.config import UNetConfig

SCRIPT = Path(__file__).with_name("two_devices.py")


@pytest.mark.backend
@pytest.mark.parametrize("kind", ["unet", "mask_rcnn"])
def test_two_devices_learn_what_one_learns_from_the_whole_batch(kind, tmp_path):
    if keras.backend.backend() == "torch":
        pytest.skip("Keras trains on one device with PyTorch")
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, kind],
        env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    start, one, two = (np.load(tmp_path / f"{kind}_{name}.npz") for name in ("start", 1, 2))
    moved = {name: np.abs(one[name] - start[name]).max() for name in start.files}
    assert max(moved.values()) > 0.005
    assert sum(distance > 1e-5 for distance in moved.values()) > len(moved) / 2
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.backend
def test_a_machine_or_backend_without_the_devices_refuses():
    message = (
        "TensorFlow and JAX only.*Received: PyTorch" if keras.backend.backend() == "torch" else "GPU_COUNT=99: .* has"
    )
    with pytest.raises(DevicesError, match=message):
        building_on(99)


def test_pytorch_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        DevicesError, match=r"GPU_COUNT=2: .*TensorFlow and JAX only.*Received: PyTorch\. Set GPU_COUNT to 1"
    ):
        building_on(2)


def test_detection_says_that_it_uses_one_device(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("mrcnn.model.build_inference_graph", lambda config: SimpleNamespace(model=None))
    monkeypatch.setattr("mrcnn.model.Detector", lambda graph, config: None)
    MaskRCNN("inference", type("Two", (Config,), {"GPU_COUNT": 2, "NUM_CLASSES": 2})(), tmp_path)
    assert "GPU_COUNT=2: training uses several devices, detection one" in caplog.text


def test_a_batch_of_a_u_net_is_divided_evenly():
    with pytest.raises(SettingsError, match="BATCH_SIZE must be a multiple of GPU_COUNT"):
        UNetConfig.from_preset(settings={"BATCH_SIZE": 5, "GPU_COUNT": 2}).validate()

"""Whole U-Nets in Keras's files load in a new process and answer as before."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from unet.model import UNet

LOAD = """
import sys
import keras, numpy as np
import unet.model
images = np.load("images.npy")
for name in sys.argv[1:]:
    np.save(name + ".npy", keras.ops.convert_to_numpy(keras.saving.load_model(name)(images)))
"""


@pytest.mark.backend
def test_a_saved_network_answers_equally_in_a_new_process(tiny_config, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    config = tiny_config(LOSS="bce-dice", CHANNEL_WEIGHTS=(1, 2, 1))
    plain, compiled = UNet(config, tmp_path), UNet(config, tmp_path)
    compiled.compile()
    names = ("model.keras", "model.h5", "compiled.keras", "compiled.h5")
    for name in names:
        (compiled if name.startswith("compiled") else plain).keras_model.save(tmp_path / name)
    expected = keras.ops.convert_to_numpy(plain.keras_model(images))
    # What this protects are registrations, which this process has already.
    subprocess.run([sys.executable, "-c", LOAD, *names], cwd=tmp_path, check=True)
    for name in names:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=1e-5, err_msg=name)

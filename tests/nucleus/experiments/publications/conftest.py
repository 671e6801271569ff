"""A data set of glands, and weights for experiments."""

import cv2
import numpy as np
import pytest

from nucleus.experiments.publications import runner


@pytest.fixture
def glas(tmp_path):
    """A folder in the layout of GlaS: every image has a bright square, which is its gland."""
    root = tmp_path / "glas"
    root.mkdir()
    for name in ("train_1", "train_2", "testA_1", "testA_2", "testB_1"):
        image, labels = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
        image[10:30, 10:30], labels[10:30, 10:30] = 200, 1
        if name == "testB_1":
            labels[32:38, 40:50] = 2
        cv2.imwrite(str(root / f"{name}.bmp"), image)
        cv2.imwrite(str(root / f"{name}_anno.bmp"), labels)
    return root


@pytest.fixture
def bright(monkeypatch, threshold_model, tmp_path):
    """Weights of a model that takes what is bright for a nucleus."""
    monkeypatch.setattr(runner, "load_model", lambda *_: threshold_model)
    weights = tmp_path / "bright.h5"
    weights.touch()
    return weights

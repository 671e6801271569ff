"""A script written for matterport's Mask_RCNN runs as it is, on a network made small from outside."""

import runpy
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from mrcnn import backbone, utils
from mrcnn.config import Config
from mrcnn.model import MaskRCNN

SCRIPT = "shapes_script.py"


class CocoConfig(Config):
    """The public COCO weights' classes, at the script's sizes."""

    NAME = "coco"
    BACKBONE = "resnet50"
    NUM_CLASSES = 81
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    TOP_DOWN_PYRAMID_SIZE = 16
    FPN_CLASSIF_FC_LAYERS_SIZE = 32
    RPN_CHANNELS = 16
    MASK_CHANNELS = 16


@pytest.fixture
def small_network(monkeypatch):
    """One narrow block a stage under the name of the ResNet-50, and narrow heads."""
    monkeypatch.setattr(backbone, "BLOCKS", {"resnet50": (1, 1, 1, 1)})
    monkeypatch.setattr(backbone, "FILTERS", (4, 4, 8, 8))
    monkeypatch.setattr(Config, "RPN_CHANNELS", 16)
    monkeypatch.setattr(Config, "MASK_CHANNELS", 16)


@pytest.mark.filterwarnings("ignore:Even though the:UserWarning")
def test_script_trains_and_detects(small_network, eager, data_dir, tmp_path, monkeypatch, capsys):
    fetched = []

    def fetch(path, verbose=1):
        fetched.append(Path(path))
        MaskRCNN("inference", CocoConfig(), tmp_path / "none").save_weights(path)

    monkeypatch.setattr(utils, "download_trained_weights", fetch)
    monkeypatch.setattr("sys.argv", [SCRIPT, str(tmp_path)])
    matplotlib.use("Agg")
    names = runpy.run_path(str(data_dir / SCRIPT), run_name="__main__")

    assert fetched == [tmp_path / "mask_rcnn_coco.h5"]
    (run,) = (tmp_path / "logs").iterdir()
    assert sorted(path.name for path in run.glob("*.h5")) == ["mask_rcnn_toy_0001.h5", "mask_rcnn_toy_0002.h5"]
    assert names["model_path"] == str(run / "mask_rcnn_toy_0002.h5")
    assert names["gt_mask"].shape == (64, 64, 3)
    found = names["r"]
    assert set(found) == {"rois", "class_ids", "scores", "masks"}
    assert found["masks"].shape == (64, 64, len(found["rois"]))
    assert 0 <= names["AP"] <= 1
    assert np.isfinite(found["scores"]).all()
    output = capsys.readouterr().out
    assert "Configurations:" in output
    assert "mAP: " in output

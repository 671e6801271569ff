"""The preset efficientnet-lite0 of Mask R-CNN: what its backbone sees, and a training from several data sets."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from mrcnn.model import MaskRCNN
from nucleus import cli, load_model, read_image
from nucleus.models.registry import make_config
from trainkit.hdf5_layout import read_layers
from trainkit.imagenet import download_imagenet
from unet.config import UNetConfig
from unet.parts import ENCODERS
from unet.weights import load_encoder_weights

DATA = Path(__file__).parents[3] / "samples" / "nucleus" / "data"
# Three of 256 x 256 pixels.
IMAGES = pd.read_csv(DATA / "classes.csv")["ImageId"].tolist()[2:9:3]
# Small enough for a few seconds; all else is the preset's.
TINY = {
    "IMAGE_MIN_DIM": 64,
    "IMAGE_MAX_DIM": 64,
    "IMAGE_MIN_SCALE": 0.0,
    "IMAGES_PER_GPU": 1,
    "STEPS_PER_EPOCH": 1,
    "VALIDATION_STEPS": 0,
    "EVALUATE_EVERY": 0,
    "STAGES": "(('heads',1,0.001),('all',1,0.0001))",
    "POST_NMS_ROIS_TRAINING": 50,
    "TRAIN_ROIS_PER_IMAGE": 8,
    "DATA_WORKERS": 0,
}


def image_path(name):
    return DATA / "stage1_train" / name / "images" / f"{name}.png"


@pytest.fixture(scope="module")
def encoder():
    """The U-Net's encoder on the shipped weights."""
    image = keras.Input((256, 256, 3))
    config = UNetConfig().update({"ENCODER": "efficientnet-lite0"})
    network = keras.Model(image, [skip.tensor for skip in ENCODERS["efficientnet-lite0"](image, config)])
    load_encoder_weights(network, download_imagenet("efficientnet-lite0"))
    return network


@pytest.mark.parametrize("mean_pixel", [None, (123.7, 116.8, 103.9), (0.0,)], ids=["preset", "lineage", "grey"])
def test_the_backbone_sees_what_the_encoder_of_the_unet_sees(encoder, tmp_path, mean_pixel):
    settings = {
        "IMAGE_MIN_SCALE": 0,
        "PRECISION": "float32",
        **({} if mean_pixel is None else {"MEAN_PIXEL": mean_pixel}),
    }
    model = MaskRCNN("inference", make_config("inference", "efficientnet-lite0", settings), tmp_path)
    model.load_weights(model.get_imagenet_weights(), by_name=True)
    image = read_image(image_path(IMAGES[2]))
    molded, *_ = model.mold_inputs([image])
    assert molded.shape[1:] == image.shape == (256, 256, 3)
    names = ("block1a_project_conv_bn", "block2b_add", "block3b_add", "block5c_add", "block7a_project_conv_bn")
    network = keras.Model(model.keras_model.inputs[0], [model.keras_model.get_layer(name).output for name in names])
    for ours, theirs in zip(network(molded), encoder(image[None]), strict=True):
        ours, theirs = (keras.ops.convert_to_numpy(features) for features in (ours, theirs))
        assert theirs.std() > 1
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_preset_learns_from_several_data_sets_and_resumes(tmp_path, eager, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("nothing is fetched"))
    for folder, names in (("first", IMAGES[:2]), ("second", IMAGES[2:])):
        (tmp_path / folder / "stage1_train").mkdir(parents=True)
        for name in names:
            (tmp_path / folder / "stage1_train" / name).symlink_to(DATA / "stage1_train" / name)
    (tmp_path / "validation.csv").write_text(f"set,stem\nfirst,{IMAGES[1]}\n")
    sets = {name: {"path": name, "subset": "stage1_train", "modality": name} for name in ("first", "second")}
    file, logs = tmp_path / "both.sets.json", tmp_path / "logs"
    file.write_text(json.dumps({"validation": "validation.csv", "sets": sets}))
    train = ["train", f"--dataset={file}", f"--logs={logs}"]
    settings = [text for name, value in TINY.items() for text in ("--set", f"{name}={value}")]
    assert cli.main([*train, "--preset=efficientnet-lite0", "--weights=imagenet", "--epochs=1", *settings]) == 0
    (run,) = logs.iterdir()
    published = read_layers(download_imagenet("efficientnet-lite0"))["block5a_expand_conv"]["kernel"].astype(np.float32)
    first, second = run / "mask_rcnn_nucleus_0001.h5", run / "mask_rcnn_nucleus_0002.h5"
    kernels = [read_layers(first)["block5a_expand_conv"]["kernel"], published]
    np.testing.assert_array_equal(*kernels, err_msg="the heads learn first")
    assert cli.main([*train, "--weights=last"]) == 0
    assert pd.read_csv(run / "training.csv")["epoch"].tolist() == [1, 2]
    changed = np.abs(read_layers(second)["block5a_expand_conv"]["kernel"] - published)
    assert 0 < changed.max() < 0.001, "then everything does, from the published weights on"
    model = load_model(second)
    assert (model.config.BACKBONE, model.config.STRETCH, model.config.CLAHE) == ("efficientnet-lite0", True, False)
    ((labels, scores),) = model.predict([read_image(image_path(IMAGES[1]))])
    assert labels.max() == len(scores)

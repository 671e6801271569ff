"""Unusable input is refused with its cause, and changes nothing."""

import h5py
import keras
import numpy as np
import pytest

from mrcnn.config import ConfigError
from mrcnn.model import MaskRCNN
from trainkit.hdf5 import WeightsFileError, save_weights

IMAGE = np.zeros((64, 80, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory):
    return MaskRCNN("inference", tiny_config(), tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def weights_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.h5"
    model.save_weights(path)
    return path


@pytest.fixture
def unchanged(model):
    """Fails the test if a weight of the model changed."""
    before = model.keras_model.get_weights()
    yield
    for array, after in zip(before, model.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, after)


def test_missing_weights_file(model, unchanged, tmp_path):
    with pytest.raises(WeightsFileError, match=r"nowhere\.h5: there is no such weights file"):
        model.load_weights(tmp_path / "nowhere.h5", by_name=True)


@pytest.mark.parametrize("content", [b"", b"not an HDF5 file", b"PK\x03\x04"])
def test_a_file_that_is_no_hdf5(model, unchanged, tmp_path, content):
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsFileError, match=r"weights\.h5: not a readable HDF5 file"):
        model.load_weights(path, by_name=True)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.95])
def test_truncated_weights_file(model, unchanged, weights_file, tmp_path, share):
    path = tmp_path / "cut.h5"
    content = weights_file.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsFileError, match=r"cut\.h5: "):
        model.load_weights(path, by_name=True)


def test_hdf5_that_holds_something_else(model, unchanged, tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["values"] = np.arange(5)
    with pytest.raises(WeightsFileError, match=r"table\.h5: not a weights file"):
        model.load_weights(tmp_path / "table.h5", by_name=True)


def test_weights_of_another_architecture(model, unchanged, tmp_path):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    save_weights(other, tmp_path / "other.h5")
    with pytest.raises(WeightsFileError, match=r"other\.h5: weights of another architecture"):
        model.load_weights(tmp_path / "other.h5", by_name=True)


def test_weights_of_a_wider_network(model, unchanged, tiny_config, tmp_path):
    MaskRCNN("inference", tiny_config(TOP_DOWN_PYRAMID_SIZE=24), tmp_path).save_weights(tmp_path / "wide.h5")
    with pytest.raises(WeightsFileError, match=r"wide\.h5: layer fpn_c5p5: kernel has the shape .*24\).*16\)"):
        model.load_weights(tmp_path / "wide.h5", by_name=True)


def test_weights_of_another_number_of_classes_say_what_to_exclude(model, unchanged, tiny_config, tmp_path):
    MaskRCNN("inference", tiny_config(NUM_CLASSES=81), tmp_path).save_weights(tmp_path / "coco.h5")
    names = r"exclude=\['mrcnn_class_logits', 'mrcnn_bbox_fc', 'mrcnn_mask'\]"
    with pytest.raises(WeightsFileError, match=rf"coco\.h5: .*{names}"):
        model.load_weights(tmp_path / "coco.h5", by_name=True)


def test_a_file_that_lacks_layers_needs_by_name(model, unchanged, weights_file, tmp_path):
    with h5py.File(weights_file) as file, h5py.File(tmp_path / "part.h5", "w") as part:
        part.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if name != b"fpn_c5p5"]
        for name in part.attrs["layer_names"]:
            file.copy(file[name], part, name)
    with pytest.raises(WeightsFileError, match=r"part\.h5: has no weights for fpn_c5p5"):
        model.load_weights(tmp_path / "part.h5")
    assert model.load_weights(tmp_path / "part.h5", by_name=True).missing == ["fpn_c5p5"]


def test_unknown_mode(tiny_config, tmp_path):
    with pytest.raises(ValueError, match=r"mode must be one of .*'train'"):
        MaskRCNN("train", tiny_config(), tmp_path)


def test_a_configuration_that_cannot_be_built(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="multiple of 64"):
        MaskRCNN("inference", tiny_config(IMAGE_MAX_DIM=100), tmp_path)


def test_each_mode_refuses_the_work_of_the_other(model, shapes):
    with pytest.raises(ValueError, match="needs a model in training mode"):
        model.train(shapes(), shapes(), 0.01, 1, "all")
    with pytest.raises(ValueError, match="needs a model in training mode"):
        model.train_stages(shapes(), shapes())


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((0, 64, 3), np.uint8)]
)
def test_detect_refuses_images_of_another_form(model, image):
    with pytest.raises(ValueError, match=r"Image 2 of 2: Expected an image \[H, W, 3\] with pixels\. Received: shape"):
        model.detect([IMAGE, image])


def test_run_graph_names_the_missing_output(model):
    with pytest.raises(ValueError, match="No tensor is given for 'features'"):
        model.run_graph([IMAGE], [("features", model.ancestor(model.keras_model.outputs[0], "no_such_layer"))])


def test_no_layer_to_train(model):
    with pytest.raises(ValueError, match="No layer of the model matches layers='res9'"):
        model.set_trainable("res9")
    with pytest.raises(ValueError, match="or a regular expression"):
        model.set_trainable("(res")

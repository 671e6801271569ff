"""Public weights: ImageNet's in the backbone, and what is downloaded from where."""

import json
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from mrcnn import weights
from mrcnn.backbone import resnet_graph
from mrcnn.model import MaskRCNN
from trainkit.download import DownloadError
from trainkit.hdf5 import WeightsFileError, save_weights


def with_the_first_pooling_of_the_lineage(layer):
    if layer.name == "pool1_pad":
        return keras.layers.Identity(name=layer.name)
    if layer.name == "pool1_pool":
        return keras.layers.MaxPooling2D(3, strides=2, padding="same", name=layer.name)
    return type(layer).from_config(layer.get_config())


@pytest.fixture(scope="module")
def published():
    """keras.applications' ResNet-50 with weights and statistics far from the identity.

    Its first pooling is the lineage's, which pads at the end only: that difference is of the network, not of the
    weights.
    """
    model = keras.models.clone_model(
        keras.applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3)),
        clone_function=with_the_first_pooling_of_the_lineage,
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = (weight.shape for weight in layer.weights)
            # Some channels hardly vary, so that the batch norm's epsilon shows.
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.0, gamma),
                    rng.normal(0, 0.1, beta),
                    rng.normal(0, 0.1, mean),
                    10 ** rng.uniform(-2.5, 0.5, variance),
                ]
            )
        elif isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * 0.5, rng.normal(0, 0.1, bias.shape)])
    return model


@pytest.fixture(scope="module")
def published_file(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("imagenet") / "resnet50_notop.h5"
    save_weights(published, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def backbone():
    image = keras.Input((64, 64, 3))
    return keras.Model(image, resnet_graph(image, "resnet50", stage5=True, train_bn=False)[-1])


def test_imagenet_weights_give_the_published_features(published, published_file, backbone):
    assert weights.is_imagenet_file(published_file)
    loaded = weights.load_imagenet(backbone, published_file)
    assert set(loaded) == {layer.name for layer in backbone.layers if layer.weights}
    image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
    expected = published(keras.applications.resnet.preprocess_input(image.copy()), training=False)
    # ImageNet's mean in the order of our channels, RGB.
    features = backbone(image - np.float32([123.68, 116.779, 103.939]), training=False)
    expected, features = (keras.ops.convert_to_numpy(array) for array in (expected, features))
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(features / scale, expected / scale, atol=1e-3)


def test_names_cover_every_layer_of_both_networks(data_dir):
    for name, build in (("resnet50", keras.applications.ResNet50), ("resnet101", keras.applications.ResNet101)):
        layout = json.loads((data_dir / "parity" / f"{name}.layout.json").read_text())
        ours = {
            weights.imagenet_name(group["layer"]): [tuple(shape) for _, shape in group["weights"]]
            for group in layout
            if weights.imagenet_name(group["layer"])
        }
        theirs = build(weights=None, include_top=False, input_shape=(32, 32, 3))
        assert ours == {layer.name: [w.shape for w in layer.weights] for layer in theirs.layers if layer.weights}


@pytest.mark.parametrize("name", ["fpn_c2p2", "rpn_model", "mrcnn_mask_bn1", "res2a_out", "bn_conv", "res10a_branch2a"])
def test_other_layers_have_no_imagenet_name(name):
    assert weights.imagenet_name(name) is None


def test_load_weights_recognises_an_imagenet_file(published_file, tiny_config, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("mrcnn.model.load_imagenet", lambda model, path, exclude: loaded.append(path) or ["conv1"])
    model = MaskRCNN("inference", tiny_config(), tmp_path)
    assert model.load_weights(published_file, by_name=True).loaded == ["conv1"]
    assert loaded == [published_file]


def test_weights_of_another_backbone_are_refused(published_file):
    image = keras.Input((64, 64, 3))
    deeper = keras.Model(image, resnet_graph(image, "resnet101", stage5=False, train_bn=False)[3])
    before = deeper.get_layer("conv1").get_weights()
    with pytest.raises(WeightsFileError, match=r"resnet50_notop.h5: weights of another backbone.*conv4_block"):
        weights.load_imagenet(deeper, published_file)
    for ours, theirs in zip(before, deeper.get_layer("conv1").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_one_damaged_layer_leaves_all_layers_as_they_were(published_file, backbone, tmp_path):
    before = [np.array(values) for values in backbone.get_weights()]
    path = shutil.copyfile(published_file, tmp_path / "damaged.h5")
    with h5py.File(path, "r+") as file:
        bias = next(file["conv5_block3_3_conv"][name] for name in names(file) if "bias" in name)
        bias[...] = np.nan
    with pytest.raises(WeightsFileError, match=r"damaged\.h5, layer conv5_block3_3_conv: .*NaN or infinite"):
        weights.load_imagenet(backbone, path)
    assert all(map(np.array_equal, before, backbone.get_weights()))


def names(file):
    return [name.decode() for name in file["conv5_block3_3_conv"].attrs["weight_names"]]


@pytest.fixture
def requests(monkeypatch):
    """The downloads that were asked for, as (url, path, options)."""
    made = []

    def note(url, path, **options):
        made.append((url, Path(path), options))
        return Path(path)

    monkeypatch.setattr(weights, "download", note)
    monkeypatch.setattr("trainkit.imagenet.download", note)
    return made


def test_imagenet_download(requests, tmp_path):
    path = weights.download_imagenet("resnet101", tmp_path)
    ((url, target, options),) = requests
    assert path == target == tmp_path / "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert url.startswith("https://storage.googleapis.com/tensorflow/keras-applications/")
    assert url.endswith(target.name)
    assert len(options["md5"]) == 32


def test_coco_download(requests, tmp_path):
    assert weights.download_coco(tmp_path) == tmp_path / "mask_rcnn_coco.h5"
    assert requests[0][0].startswith("https://github.com/matterport/Mask_RCNN/releases/")


def test_no_imagenet_weights_for_a_backbone_of_ones_own(requests, tiny_config, tmp_path):
    with pytest.raises(ValueError, match="resnet50"):
        MaskRCNN("inference", tiny_config(), tmp_path).get_imagenet_weights()
    assert not requests


def test_without_a_network_the_message_says_what_to_do(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DownloadError, match=r"ImageNet weights of resnet50 from https://.*no network.*put it at"):
        weights.download_imagenet("resnet50", tmp_path)
    assert not list(tmp_path.glob("*.h5"))

"""Pretrained encoders: published files give the published features, files of other networks change nothing."""

import collections
import inspect
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import ops

from trainkit import imagenet
from trainkit.hdf5 import WeightsFileError, save_weights
from trainkit.hdf5_layout import read_layers, write_groups
from unet.architecture import build_unet, encoder_layer_names
from unet.config import UNetConfig
from unet.encoders import resnet50_encoder, xception_encoder
from unet.weights import encoder_weights_path, holds_an_encoder_alone, load_encoder_weights


def enliven(model):
    """Gives a network statistics far from the identity, and activations that neither vanish nor explode."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [rng.uniform(0.5, 1, shape), rng.normal(0, 0.1, shape), *rng.uniform(0.1, 1, (2, *shape))]
            )


def padded(layer):
    """A copy of a layer of keras.applications, with the padding that makes the resolution an exact half."""
    settings = layer.get_config()
    if layer.name in ("block1_conv1", "block1_conv2"):
        settings["padding"] = "same"
    return type(layer).from_config(settings)


@pytest.fixture(scope="module")
def xception(tmp_path_factory):
    """keras.applications' Xception and a file of its weights in the layout in which they are published."""
    model = keras.applications.Xception(weights=None, include_top=False, input_shape=(96, 96, 3))
    enliven(model)
    path = tmp_path_factory.mktemp("imagenet") / "xception_notop.h5"
    save_weights(model, path)
    yield model, path
    path.unlink()


@pytest.fixture(scope="module")
def encoder():
    """Our Xception, down to the bottleneck."""
    image = keras.Input((None, None, 3))
    return keras.Model(image, xception_encoder(image, UNetConfig())[-1].tensor)


@pytest.mark.backend
def test_xception_with_published_weights_gives_the_features_of_the_padded_network(xception, encoder):
    published, path = xception
    loaded = load_encoder_weights(encoder, path)
    assert len(loaded) == sum(bool(layer.weights) for layer in published.layers) == 80
    reference = keras.models.clone_model(published, clone_function=padded)
    reference.set_weights(published.get_weights())
    image = np.random.default_rng(1).integers(0, 256, (1, 96, 96, 3)).astype(np.float32)
    expected = ops.convert_to_numpy(reference(keras.applications.xception.preprocess_input(image.copy())))
    features = ops.convert_to_numpy(encoder(image, training=False))
    assert features.shape == (1, 3, 3, 2048)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(features, expected, atol=1e-4 * expected.max())


def test_shortcuts_are_found_whatever_their_numbers(xception, encoder, tmp_path):
    _, path = xception
    renamed = tmp_path / "renamed.h5"
    numbers = {}
    with h5py.File(path) as source, h5py.File(renamed, "w") as target:
        for name in source.attrs["layer_names"]:
            name = name.decode() if isinstance(name, bytes) else name
            kind = next((kind for kind in ("conv2d", "batch_normalization") if name.startswith(kind)), None)
            if kind:
                numbers[kind] = numbers.get(kind, 16) + 1
            source.copy(name, target, name=f"{kind}_{numbers[kind]}" if kind else name)
        target.attrs["layer_names"] = [name.encode() for name in target]
    assert numbers == {"conv2d": 20, "batch_normalization": 20}
    load_encoder_weights(encoder, renamed)
    stored = read_layers(path)
    kernels = [arrays["kernel"] for name, arrays in stored.items() if name.startswith("conv2d")]
    for block, kernel in zip((2, 3, 4, 13), sorted(kernels, key=lambda kernel: kernel.shape[-1]), strict=True):
        np.testing.assert_array_equal(encoder.get_layer(f"block{block}_shortcut").get_weights()[0], kernel)


def test_xception_loads_from_the_published_file_whose_layers_have_numbers_for_names(xception, encoder, tmp_path):
    published, _ = xception
    numbers = collections.Counter()
    old = {
        "Conv2D": ("convolution2d", ["W"]),
        "SeparableConv2D": ("separableconvolution2d", ["depthwise_kernel", "pointwise_kernel"]),
        "BatchNormalization": ("batchnormalization", ["gamma", "beta", "running_mean", "running_std"]),
    }
    groups = []
    for layer in published.layers:
        if layer.weights:
            kind, variables = old[type(layer).__name__]
            numbers[kind] += 1
            name = f"{kind}_{numbers[kind]}"
            pairs = zip(variables, layer.get_weights(), strict=True)
            groups.append((name, [(f"{name}_{variable}:0", array) for variable, array in pairs]))
    path = tmp_path / "keras_1.h5"
    with h5py.File(path, "w") as file:
        write_groups(file, groups)
    for layer in encoder.layers:
        layer.set_weights([np.zeros_like(array) for array in layer.get_weights()])
    assert len(load_encoder_weights(encoder, path)) == 80
    # The shortcuts have names of their own here, and these have numbers in keras.applications.
    ours, theirs = ({(*array.shape, float(array.sum())) for array in m.get_weights()} for m in (encoder, published))
    assert ours == theirs
    for name in ("block1_conv1", "block5_sepconv2_bn", "block14_sepconv2"):
        for mine, own in zip(
            encoder.get_layer(name).get_weights(), published.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(mine, own)
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:-1]
    with pytest.raises(WeightsFileError, match=r"keras_1\.h5: no weights of Xception"):
        load_encoder_weights(encoder, path)


def test_resnet_with_published_weights_gives_the_published_features(tmp_path):
    published = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(32, 32, 3))
    enliven(published)
    save_weights(published, tmp_path / "resnet50_notop.h5")
    image = keras.Input((None, None, 3))
    encoder = keras.Model(image, resnet50_encoder(image, UNetConfig())[-1].tensor)
    load_encoder_weights(encoder, tmp_path / "resnet50_notop.h5")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    expected = ops.convert_to_numpy(published(keras.applications.resnet.preprocess_input(pixels.copy())))
    features = ops.convert_to_numpy(encoder(pixels, training=False))
    np.testing.assert_allclose(features, expected, atol=1e-4 * expected.max())


@pytest.fixture
def tiny():
    """Returns a function that builds a tiny network, settings by keyword."""

    def build(**settings):
        settings = {"ENCODER": "plain", "DECODER": "plain", "ENCODER_FILTERS": (4, 6, 8), **settings}
        return build_unet(UNetConfig().update(settings))

    return build


def weights_of(model, names):
    return [array for name in names for array in model.get_layer(name).get_weights()]


def test_an_encoder_comes_from_another_network_with_another_decoder(tiny, tmp_path):
    source = tiny(TARGETS="mask-border")
    enliven(source)
    save_weights(source, tmp_path / "source.h5")
    model = tiny(DECODER="inception-se", DECODER_FILTERS=(8, 8))
    encoder = encoder_layer_names(model)
    others = [layer.name for layer in model.layers if layer.name not in encoder]
    before = weights_of(model, others)
    assert load_encoder_weights(model, tmp_path / "source.h5") == encoder
    for ours, theirs in zip(weights_of(model, encoder), weights_of(source, encoder), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for after, untouched in zip(weights_of(model, others), before, strict=True):
        np.testing.assert_array_equal(after, untouched)


def test_a_file_with_a_decoder_is_recognised(xception, tiny, tmp_path):
    model = tiny()
    save_weights(model, tmp_path / "whole.h5")
    assert holds_an_encoder_alone(xception[1]) and not holds_an_encoder_alone(tmp_path / "whole.h5")
    with pytest.raises(WeightsFileError, match=r"gone\.h5"):
        holds_an_encoder_alone(tmp_path / "gone.h5")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"ENCODER_FILTERS": (4, 6)}, "it lacks encoder_4_conv1"),
        ({"ENCODER_FILTERS": (4, 6, 8, 8)}, "this encoder lacks encoder_8_conv1"),
        ({"ENCODER_FILTERS": (4, 6, 9)}, "other shapes have encoder_4_conv1"),
        ({"BATCH_NORM": False}, "it lacks encoder_1_conv1_bn"),
        ({"IMAGE_CHANNEL_COUNT": 1}, "other shapes have encoder_1_conv1"),
    ],
)
def test_a_file_of_another_encoder_is_refused_and_changes_nothing(tiny, tmp_path, other, message):
    save_weights(tiny(**other), tmp_path / "other.h5")
    model = tiny()
    before = model.get_weights()
    with pytest.raises(WeightsFileError, match=rf"other\.h5: weights of another encoder than unet has: {message}"):
        load_encoder_weights(model, tmp_path / "other.h5")
    for after, untouched in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(after, untouched)


def _datasets(group):
    found = []
    group.visititems(lambda _, member: found.append(member) if isinstance(member, h5py.Dataset) else None)
    return found


def test_an_encoder_with_one_damaged_layer_changes_no_layer(tiny, tmp_path):
    path, model = tmp_path / "damaged.h5", tiny()
    save_weights(tiny(), path)
    with h5py.File(path, "r+") as file:
        last = [name for name in file if name.startswith("encoder_") and len(file[name])][-1]
        _datasets(file[last])[-1][...] = np.inf
    before = [np.array(values) for values in model.get_weights()]
    with pytest.raises(WeightsFileError, match=rf"damaged\.h5, layer {last}: .*NaN or infinite"):
        load_encoder_weights(model, path)
    assert all(map(np.array_equal, before, model.get_weights()))


def test_what_is_no_weights_file_is_refused_by_name(tiny, tmp_path):
    (tmp_path / "text.h5").write_text("no weights")
    for name in ("text.h5", "gone.h5"):
        with pytest.raises(WeightsFileError, match=name):
            load_encoder_weights(tiny(), tmp_path / name)


def test_imagenet_weights_are_fetched_on_demand_only(monkeypatch, tmp_path):
    requests = []

    def note(url, path, **options):
        requests.append((url, options["md5"]))
        return Path(path)

    monkeypatch.setattr("trainkit.imagenet.download", note)
    assert encoder_weights_path(UNetConfig()) is None
    assert encoder_weights_path(UNetConfig.from_preset("xception", {"ENCODER_WEIGHTS": "own.h5"})) == Path("own.h5")
    assert not requests
    name = "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"
    assert encoder_weights_path(UNetConfig.from_preset("xception"), tmp_path) == tmp_path / name
    ((url, md5),) = requests
    assert url == f"https://storage.googleapis.com/tensorflow/keras-applications/xception/{name}"
    assert len(md5) == 32


@pytest.mark.parametrize("network", [name for name in imagenet.IMAGENET_NETWORKS if name not in imagenet.SHIPPED])
def test_addresses_and_checksums_are_those_of_keras_applications(network, monkeypatch, tmp_path):
    requests = []
    monkeypatch.setattr("trainkit.imagenet.download", lambda url, path, **options: requests.append((url, options)))
    imagenet.download_imagenet(network, tmp_path)
    ((url, options),) = requests
    build = {"xception": "Xception", "vgg16": "VGG16"}.get(network, network.replace("resnet", "ResNet"))
    module = inspect.getmodule(getattr(keras.applications, build))
    source = inspect.getsource(module)
    if network.startswith("resnet"):
        assert module.WEIGHTS_HASHES[network][1] == options["md5"]
        assert url == f"{module.BASE_WEIGHTS_PATH}{network}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    else:
        assert url == module.WEIGHTS_PATH_NO_TOP
        assert f'file_hash="{options["md5"]}"' in source.split("WEIGHTS_PATH_NO_TOP,")[1]


def test_no_weights_for_a_network_that_has_none():
    with pytest.raises(ValueError, match=r"ImageNet weights exist for .*Received: 'plain'"):
        imagenet.download_imagenet("plain")

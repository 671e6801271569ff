"""The model a user holds: prediction at any size, files, and what is refused."""

import copy
import io
import json
import resource
import zipfile

import h5py
import keras
import numpy as np
import pytest

from trainkit.folding import fold_batch_norm
from trainkit.hdf5_layout import WeightsFileError
from unet.config import UNetConfig
from unet.model import UNet
from unet.postprocess import PostprocessSettings, postprocess
from unet.resize import resize_image, resize_probabilities
from unet.saved import append_settings

PLAIN = {"BATCH_NORM": False, "ENCODER_FILTERS": (4, 6, 8)}


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory):
    """A tiny network of stride 4 with random weights; do not change it."""
    return UNet(tiny_config(**PLAIN, DROPOUT=0.2), tmp_path_factory.mktemp("logs"))


def image(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.keras_model.weights]


@pytest.mark.backend
def test_images_of_any_size_are_predicted(model):
    images = [image(32, 24, 3), image(9, 30, 3), image(1, 1, 3)]
    found = model.predict(images)
    assert [probabilities.shape for probabilities in found] == [(32, 24, 3), (9, 30, 3), (1, 1, 3)]
    for probabilities in found:
        assert probabilities.dtype == np.float32 and 0 <= probabilities.min() <= probabilities.max() <= 1
    # 32 x 24 needs no padding: the network's own answer, whole.
    expected = keras.ops.convert_to_numpy(model.keras_model(images[0][None].astype(np.float32), training=False))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    # 9 x 30 is mirrored to 12 x 32 around a margin of one pixel.
    padded = np.pad(images[1], ((1, 2), (1, 1), (0, 0)), mode="symmetric")
    np.testing.assert_allclose(found[1], model.predict([padded])[0][1:10, 1:31], atol=1e-5)


def test_images_can_be_predicted_at_the_size_of_training(model, monkeypatch):
    monkeypatch.setattr(model.config, "INFERENCE_MODE", "resize", raising=False)
    side = model.config.IMAGE_SIZE
    large = image(3 * side, 2 * side, 3)
    (found,) = model.predict([large])
    monkeypatch.setattr(model.config, "INFERENCE_MODE", "full", raising=False)
    (small,) = model.predict([resize_image(large, side)])
    np.testing.assert_allclose(found, resize_probabilities(small, large.shape[:2]), atol=1e-5)
    assert abs(found - model.predict([large])[0]).max() > 0.01, "another answer than at the image's own size"


@pytest.mark.backend
def test_a_batch_gives_what_single_images_give(model):
    images = [image(30 - index, 22 + index, 3, seed=index) for index in range(7)]
    for together, picture in zip(model.predict(images), images, strict=True):
        np.testing.assert_allclose(together, model.predict([picture])[0], atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="counts the graphs that TensorFlow traced")
def test_more_images_and_sizes_need_no_more_graphs(tiny_config, tmp_path, monkeypatch):
    traced = []

    def counting(network):
        folded = fold_batch_norm(network)
        call = folded.call

        def count(inputs, *arguments, **options):
            traced.append(tuple(inputs.shape))
            return call(inputs, *arguments, **options)

        folded.call = count
        return folded

    monkeypatch.setattr("unet.model.fold_batch_norm", counting)
    model = UNet(tiny_config(**PLAIN), tmp_path)
    for count in range(1, 20):
        model.predict([image(24, 24, 3)] * count)
    model.predict([image(24, 40, 3), image(32, 24, 3)])
    assert traced == [(1, 24, 24, 3), (None, None, None, 3)], "one for the first size, one for all others"


def test_nuclei_follow_from_the_channels(model, monkeypatch):
    channels = np.zeros((10, 20, 3), np.float32)
    channels[2:8, 2:9, :2] = 0.9
    channels[2:8, 9:15, :2] = 0.7
    channels[2:8, 8:10, 2] = 1.0
    monkeypatch.setattr(model, "predict", lambda images: [channels])
    labels, scores = model.predict_labels(image(10, 20, 3))
    assert labels.dtype == np.int32 and labels.max() == 2
    np.testing.assert_allclose(scores, [0.9, 0.7], atol=0.05)
    monkeypatch.setattr(model.config, "POSTPROCESS", "components", raising=False)
    labels, _ = model.predict_labels(image(10, 20, 3))
    expected, _ = postprocess(channels, PostprocessSettings(method="components"))
    np.testing.assert_array_equal(labels, expected)
    assert labels.max() == 1


@pytest.mark.parametrize("wrong", [(8, 8), (8, 8, 1), (8, 8, 4), (0, 8, 3)])
def test_what_is_no_image_is_refused(model, wrong):
    with pytest.raises(ValueError, match=r"Expected an image \[H, W, 3\]"):
        model.predict([np.zeros(wrong, np.uint8)])


def test_one_seed_gives_one_network(tiny_config, tmp_path):
    first, same, other = (UNet(tiny_config(SEED=seed), tmp_path) for seed in (1, 1, 2))
    assert all((ours == theirs).all() for ours, theirs in zip(weights_of(first), weights_of(same), strict=True))
    assert any((ours != theirs).any() for ours, theirs in zip(weights_of(first), weights_of(other), strict=True))


def test_a_saved_model_is_the_same_model(model, tmp_path):
    picture = image(20, 17, 3)
    model.save(tmp_path / "a.keras")
    loaded = UNet.load(tmp_path / "a.keras")
    assert loaded.config.to_dict() == model.config.to_dict()
    np.testing.assert_array_equal(loaded.predict([picture])[0], model.predict([picture])[0])
    assert [layer.name for layer in loaded.keras_model.layers] == [layer.name for layer in model.keras_model.layers]
    # Plain Keras reads it too.
    plain = keras.saving.load_model(tmp_path / "a.keras", safe_mode=True)
    assert plain.output_shape == (None, None, None, 3) and not plain.compiled
    with pytest.raises(ValueError, match=r"b\.h5: a saved model ends in \.keras"):
        model.save(tmp_path / "b.h5")


def test_weights_alone_go_through_hdf5(model, tiny_config, tmp_path):
    model.save_weights(tmp_path / "w.h5")
    other = UNet(tiny_config(**PLAIN, SEED=5), tmp_path)
    other.load_weights(tmp_path / "w.h5")
    picture = image(16, 16, 3)
    np.testing.assert_array_equal(other.predict([picture])[0], model.predict([picture])[0])
    assert other.epoch == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"ENCODER_FILTERS": (4, 6, 10)},
        {"TARGETS": "mask-border"},
        {"IMAGE_CHANNEL_COUNT": 1},
        {"ENCODER_FILTERS": (4, 8)},
        {"BATCH_NORM": True},
    ],
    ids=str,
)
def test_weights_of_another_architecture_are_refused(model, tiny_config, tmp_path, settings):
    model.save_weights(tmp_path / "w.h5")
    other = UNet(tiny_config(**{**PLAIN, **settings}), tmp_path)
    before = weights_of(other)
    with pytest.raises(WeightsFileError, match=r"w\.h5"):
        other.load_weights(tmp_path / "w.h5")
    for ours, theirs in zip(before, weights_of(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_files_that_are_no_saved_model_are_named(model, tmp_path):
    model.save(tmp_path / "good.keras")
    truncated = tmp_path / "truncated.keras"
    truncated.write_bytes((tmp_path / "good.keras").read_bytes()[:500])
    foreign = tmp_path / "foreign.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save(foreign)
    damaged = tmp_path / "damaged.keras"
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("unet_settings.json", "{}")
    for path in (truncated, foreign, damaged):
        with pytest.raises(WeightsFileError, match=rf"{path.stem}\.keras: no \.keras file of a U-Net"):
            UNet.load(path)
    with pytest.raises(WeightsFileError, match=r"gone\.keras: cannot be read \(No such file"):
        UNet.load(tmp_path / "gone.keras")


def replace_member(path, name, change):
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)


def test_a_network_of_another_kind_is_no_unet_whatever_settings_stand_beside_it(model, tiny_config, tmp_path):
    path = tmp_path / "a.keras"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(64), keras.layers.Dense(1)]).save(path)
    append_settings(path, tiny_config(**PLAIN))
    with pytest.raises(
        WeightsFileError, match=r"a\.keras: no \.keras file of a U-Net .*is.* in the network of its sett"
    ):
        UNet.load(path)
    # The same layers with other filters.
    model.keras_model.save(path)
    other = copy.copy(model.config)
    other.update({"ENCODER_FILTERS": (*other.ENCODER_FILTERS[:-1], other.ENCODER_FILTERS[-1] + 1)})
    append_settings(path, other)
    with pytest.raises(WeightsFileError, match=r"a\.keras: .*its weights are another network's than its settings say"):
        UNet.load(path)


def test_a_number_of_filters_that_no_memory_holds_is_refused_before_a_network_is_built(model, tmp_path):
    path = tmp_path / "a.keras"
    model.save(path)
    huge = json.dumps({**model.config.to_dict(), "ENCODER_FILTERS": [4, 10**9]}).encode()
    replace_member(path, "unet_settings.json", lambda _: huge)
    with pytest.raises(
        WeightsFileError, match=r"a\.keras: .*ask for 1000000000 filters, and its weights have \d+ at most"
    ):
        UNet.load(path)


def test_code_in_a_saved_network_is_not_even_looked_at(model, tmp_path):
    path = tmp_path / "a.keras"
    model.save(path)

    def plant(config):
        return config.replace(b'"module": "keras', b'"module": "os.path')

    replace_member(path, "config.json", plant)
    picture = image(16, 16, 3)
    np.testing.assert_array_equal(UNet.load(path).predict([picture])[0], model.predict([picture])[0])


@pytest.mark.parametrize("kind", ["link", "storage", "nan"])
def test_weights_inside_a_saved_model_are_checked_like_others(model, tmp_path, kind):
    path = tmp_path / "a.keras"
    model.save(path)
    (tmp_path / "secret").write_bytes(b"s" * 1000)

    def change(data):
        buffer = io.BytesIO(data)
        with h5py.File(buffer, "r+") as file:
            name = "layers/conv2d/vars/1"
            shape = file[name].shape
            del file[name]
            if kind == "link":
                file[name] = h5py.ExternalLink(str(tmp_path / "secret"), "/")
            elif kind == "storage":
                file.create_dataset(name, shape, "f4", external=[(str(tmp_path / "secret"), 0, 4 * shape[0])])
            else:
                file[name] = np.full(shape, np.nan, np.float32)
        return buffer.getvalue()

    replace_member(path, "model.weights.h5", change)
    cause = {"link": "link to another place", "storage": "are in another file", "nan": "NaN or infinite"}[kind]
    with pytest.raises(WeightsFileError, match=rf"a\.keras: .*{cause}"):
        UNet.load(path)


def test_settings_of_another_class_are_named(tiny_config, tmp_path):
    class Wider(UNetConfig):
        STAIN = "none"

    config = Wider().update({**tiny_config().to_dict(), "STAIN": "blue"})
    UNet(config, tmp_path).save(tmp_path / "a.keras")
    assert UNet.load(tmp_path / "a.keras", config_class=Wider).config.STAIN == "blue"
    with pytest.raises(WeightsFileError, match=r"a\.keras: no settings of a UNetConfig, .*config_class.*STAIN"):
        UNet.load(tmp_path / "a.keras")


def test_an_interrupted_save_leaves_the_file_as_it_was(model, tmp_path, monkeypatch):
    path = tmp_path / "a.keras"
    path.write_bytes(b"before")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match=r"a\.keras: .*disk full"):
        model.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.keras"] and path.read_bytes() == b"before"


def test_a_full_disk_names_the_saved_model_and_leaves_the_old_one(model, tmp_path):
    path = tmp_path / "a.keras"
    path.write_bytes(b"before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**11, before[1]))
    try:
        with pytest.raises(OSError, match=r"a\.keras") as error:
            model.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno and ".a." not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["a.keras"] and path.read_bytes() == b"before"


def test_encoder_weights_are_loaded_when_the_model_is_made(model, tiny_config, tmp_path):
    model.save_weights(tmp_path / "w.h5")
    path = str(tmp_path / "w.h5")
    other = UNet(tiny_config(**PLAIN, DROPOUT=0.2, SEED=5, ENCODER_WEIGHTS=path), tmp_path)
    for layer in model.keras_model.layers:
        if layer.weights:
            ours, theirs = (
                keras.ops.convert_to_numpy(m.get_layer(layer.name).kernel)
                for m in (model.keras_model, other.keras_model)
            )
            assert (ours == theirs).all() == layer.name.startswith("encoder_")


def test_summary_lists_the_layers(model):
    lines = []
    model.summary(print_fn=lines.append)
    assert "probabilities" in "\n".join(lines)

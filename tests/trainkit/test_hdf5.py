"""Weights files: written as Keras 2 wrote them, read from every writer there has been.

The references are files laid out by hand with h5py, and Keras's own reader and writer of whole HDF5 models.
"""

import logging
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from trainkit.hdf5 import WeightsFileError, assign, load_weights, repack_weights, save_weights
from trainkit.hdf5_layout import read_layers
from trainkit.legacy_model import LegacyModel

pytestmark = pytest.mark.backend


def build_model(classes=2, seed=0, nested=True, name="detector"):
    """A model with what the real one has: convolution, BatchNorm, a nested model, a head, weightless layers."""
    image = keras.Input((8, 8, 3), name="input_image")
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(image)
    x = layers.BatchNormalization(name="bn_conv1")(x)
    x = layers.ReLU(name="activation")(x)
    inner_input = keras.Input((8, 8, 4), name="inner_input")
    shared = layers.Conv2D(5, 3, padding="same", name="rpn_conv_shared")
    raw = layers.Conv2D(6, 1, name="rpn_class_raw")
    rpn_model = keras.Model(inner_input, raw(shared(inner_input)), name="rpn_model")
    x = layers.GlobalAveragePooling2D(name="pool")(rpn_model(x) if nested else raw(shared(x)))
    model = keras.Model(image, layers.Dense(classes, name="class_logits")(x), name=name)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 1, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def write_file(path, groups, root=""):
    """Writes {layer: {weight name: array}} as Keras 2 did."""
    with h5py.File(path, "w") as file:
        top = file.require_group(root) if root else file
        top.attrs["layer_names"] = [np.bytes_(name) for name in groups]
        top.attrs["backend"] = np.bytes_("tensorflow")
        top.attrs["keras_version"] = np.bytes_("2.0.8")
        for layer, weights in groups.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = [np.bytes_(name) for name in weights]
            for name, array in weights.items():
                group.create_dataset(name, data=array)
    return path


def values(model):
    return [np.array(value) for value in model.get_weights()]


def assert_same(model, expected):
    for found, value in zip(values(model), expected, strict=True):
        np.testing.assert_array_equal(found, value)


def test_the_file_is_laid_out_as_keras_2_laid_it_out(tmp_path):
    model = build_model()
    save_weights(model, tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        names = [name.decode() for name in file.attrs["layer_names"]]
        assert names == [
            "input_image",
            "conv1",
            "bn_conv1",
            "activation",
            "rpn_model",
            "pool",
            "class_logits",
        ]
        assert [name.decode() for name in file["rpn_model"].attrs["weight_names"]] == [
            "rpn_conv_shared/kernel:0",
            "rpn_conv_shared/bias:0",
            "rpn_class_raw/kernel:0",
            "rpn_class_raw/bias:0",
        ]
        assert [name.decode() for name in file["bn_conv1"].attrs["weight_names"]] == [
            "bn_conv1/gamma:0",
            "bn_conv1/beta:0",
            "bn_conv1/moving_mean:0",
            "bn_conv1/moving_variance:0",
        ]
        assert len(file["pool"].attrs["weight_names"]) == 0
        assert {"backend", "keras_version"} <= set(file.attrs)
        np.testing.assert_array_equal(
            file["conv1"]["conv1/kernel:0"][()], np.array(model.get_layer("conv1").get_weights()[0])
        )


def test_keras_reads_what_is_written(tmp_path):
    model, other = build_model(), build_model(seed=1)
    save_weights(model, tmp_path / "a.h5")
    other.load_weights(tmp_path / "a.h5")
    assert_same(other, values(model))


def test_what_keras_writes_as_a_whole_model_is_read(tmp_path):
    model, other = build_model(), build_model(seed=1)
    model.save(tmp_path / "a.h5")
    report = load_weights(other, tmp_path / "a.h5", by_name=False)
    assert_same(other, values(model))
    assert report.missing == report.unused == []


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("from_nested", [False, True])
@pytest.mark.parametrize("to_nested", [False, True])
def test_nesting_and_freezing_do_not_matter(tmp_path, from_nested, to_nested, frozen):
    model, other = build_model(nested=from_nested), build_model(nested=to_nested, seed=1)
    other.trainable = not frozen
    save_weights(model, tmp_path / "a.h5")
    report = load_weights(other, tmp_path / "a.h5", by_name=False)
    assert report.loaded == ["conv1", "bn_conv1", "rpn_conv_shared", "rpn_class_raw", "class_logits"]
    other.trainable = True
    assert_same(other, values(model))


@pytest.mark.parametrize("root", ["", "model_weights"])
@pytest.mark.parametrize(
    ("kernel", "bias", "gamma", "mean", "variance"),
    [
        ("conv1/kernel:0", "conv1/bias:0", "bn_conv1/gamma:0", "bn_conv1/moving_mean:0", "moving_variance:0"),
        ("conv1_1/kernel:0", "conv1_1/bias:0", "bn_conv1_1/gamma:0", "bn_conv1_1/m:0", "bn_conv1_1/v:0"),
        (
            "conv1_W:0",
            "conv1_b:0",
            "bn_conv1_gamma:0",
            "bn_conv1_running_mean:0",
            "bn_conv1_running_std:0",
        ),
        ("conv1_W_1:0", "conv1_b_1:0", "bn_conv1_gamma_1:0", "running_mean_1:0", "running_std_1:0"),
        ("d/conv1/conv1/kernel", "d/conv1/conv1/bias", "d/bn_conv1/gamma", "moving_mean", "moving_variance"),
    ],
)
def test_every_way_of_naming_weights_is_read(tmp_path, root, kernel, bias, gamma, mean, variance):
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 3, 3, 4), (4,), (4,), (4,), (4,), (4,)]]
    prefix = gamma.removesuffix(gamma[gamma.index("gamma") :])
    suffix = gamma[gamma.index("gamma") + len("gamma") :]
    batch_norm = [gamma, f"{prefix}beta{suffix}", mean, variance]
    groups = {
        "conv1": dict(zip([kernel, bias], arrays[:2], strict=True)),
        "bn_conv1": dict(zip(batch_norm, arrays[2:], strict=True)),
    }
    model = build_model(seed=1)
    report = load_weights(model, write_file(tmp_path / "a.h5", groups, root))
    assert report.loaded == ["conv1", "bn_conv1"]
    assert_same(model, arrays + values(build_model(seed=1))[6:])


def test_variables_go_by_name_and_not_by_order(tmp_path):
    names = ["moving_variance", "beta", "gamma", "moving_mean"]
    arrays = {name: np.full(4, number, np.float32) for number, name in enumerate(names)}
    groups = {"bn_conv1": {f"bn_conv1/{name}:0": array for name, array in arrays.items()}}
    model = build_model()
    load_weights(model, write_file(tmp_path / "a.h5", groups))
    gamma, beta, mean, variance = model.get_layer("bn_conv1").get_weights()
    assert [float(array[0]) for array in (gamma, beta, mean, variance)] == [2, 1, 3, 0]


def test_time_distributed_layers_stand_under_their_own_name(tmp_path):
    inputs = keras.Input((3, 8))
    outputs = layers.TimeDistributed(layers.Dense(2, name="inside"), name="class_logits")(inputs)
    model = keras.Model(inputs, outputs)
    kernel, bias = np.arange(16, dtype=np.float32).reshape(8, 2), np.ones(2, np.float32)
    groups = {"class_logits": {"class_logits/kernel:0": kernel, "class_logits/bias:0": bias}}
    load_weights(model, write_file(tmp_path / "a.h5", groups), by_name=False)
    assert_same(model, [kernel, bias])
    save_weights(model, tmp_path / "b.h5")
    np.testing.assert_array_equal(read_layers(tmp_path / "b.h5")["class_logits"]["kernel"], kernel)


def test_separable_and_composite_layers_survive_a_round_trip(tmp_path):
    def build():
        inputs = keras.Input((6, 8))
        x = layers.SeparableConv1D(8, 3, padding="same", name="separable")(inputs)
        x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
        return keras.Model(inputs, layers.LSTM(3, name="lstm")(x))

    model, other = build(), build()
    save_weights(model, tmp_path / "a.h5")
    load_weights(other, tmp_path / "a.h5", by_name=False)
    assert_same(other, values(model))
    model.save(tmp_path / "b.h5")
    other = build()
    load_weights(other, tmp_path / "b.h5", by_name=False)
    assert_same(other, values(model))


@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        (["class_logits"], ["class_logits"]),
        (["rpn_model"], ["rpn_conv_shared", "rpn_class_raw"]),
        (["rpn_class_raw", "conv1"], ["conv1", "rpn_class_raw"]),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_excluded_layers_keep_their_weights(tmp_path, exclude, kept, nested):
    save_weights(build_model(), tmp_path / "a.h5")
    model = build_model(seed=1, nested=nested)
    before, after = read_flat(model, tmp_path), read_layers(tmp_path / "a.h5")
    report = load_weights(model, tmp_path / "a.h5", exclude=exclude, by_name=False)
    assert report.missing == report.unused == []
    assert not set(kept) & set(report.loaded)
    for name, arrays in read_flat(model, tmp_path).items():
        expected = before if name in kept else after
        for variable, array in arrays.items():
            np.testing.assert_array_equal(array, expected[name][variable])


def read_flat(model, folder):
    save_weights(model, folder / "flat.h5")
    return read_layers(folder / "flat.h5")


def test_the_shared_layers_are_loaded_and_the_others_reported(tmp_path, caplog):
    groups = {
        "conv1": {"conv1/kernel:0": np.zeros((3, 3, 3, 4)), "conv1/bias:0": np.zeros(4)},
        "fc1000": {"fc1000/kernel:0": np.zeros((4, 9)), "fc1000/bias:0": np.zeros(9)},
        "pool": {},
    }
    path = write_file(tmp_path / "a.h5", groups)
    with caplog.at_level(logging.WARNING, "trainkit"):
        report = load_weights(build_model(), path)
    assert report.loaded == ["conv1"]
    assert report.missing == ["bn_conv1", "rpn_conv_shared", "rpn_class_raw", "class_logits"]
    assert report.unused == ["fc1000"]
    assert "no weights for bn_conv1, rpn_conv_shared" in caplog.text


def test_not_by_name_everything_has_to_be_there(tmp_path):
    save_weights(build_model(), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:-1]
    model = build_model(seed=1)
    with pytest.raises(WeightsFileError, match=r"a\.h5: has no weights for class_logits"):
        load_weights(model, tmp_path / "a.h5", by_name=False)
    assert_same(model, values(build_model(seed=1)))


def test_another_architecture_is_refused(tmp_path):
    groups = {"dense_1": {"dense_1/kernel:0": np.zeros((4, 4)), "dense_1/bias:0": np.zeros(4)}}
    path = write_file(tmp_path / "vgg.h5", groups)
    with pytest.raises(WeightsFileError, match=r"vgg\.h5: weights of another architecture.*dense_1.*conv1"):
        load_weights(build_model(), path)


def test_another_number_of_classes_names_the_layers_to_exclude(tmp_path):
    save_weights(build_model(classes=81), tmp_path / "coco.h5")
    model = build_model(seed=1)
    with pytest.raises(WeightsFileError) as error:
        load_weights(model, tmp_path / "coco.h5")
    assert "coco.h5: layer class_logits: kernel has the shape (6, 81) in the file and (6, 2)" in str(error.value)
    assert "exclude=['class_logits']" in str(error.value)
    assert_same(model, values(build_model(seed=1)))


def test_another_shape_than_the_outputs_gives_no_hint(tmp_path):
    groups = {"conv1": {"conv1/kernel:0": np.zeros((7, 7, 3, 4)), "conv1/bias:0": np.zeros(4)}}
    with pytest.raises(WeightsFileError, match=r"\(7, 7, 3, 4\) in the file and \(3, 3, 3, 4\)") as error:
        load_weights(build_model(), write_file(tmp_path / "a.h5", groups))
    assert "exclude" not in str(error.value)


def test_a_missing_bias_is_an_error(tmp_path):
    path = write_file(tmp_path / "a.h5", {"conv1": {"conv1/kernel:0": np.zeros((3, 3, 3, 4))}})
    with pytest.raises(WeightsFileError, match="layer conv1: the file has kernel, the model kernel, bias"):
        load_weights(build_model(), path)


def test_float16_and_gzip_halve_the_file_and_load_into_float32(tmp_path):
    model, other = build_model(), build_model(seed=1)
    save_weights(model, tmp_path / "a.h5", dtype="float16", compress=True)
    with h5py.File(tmp_path / "a.h5") as file:
        dataset = file["conv1"]["conv1/kernel:0"]
        assert dataset.dtype == np.float16
        assert dataset.compression == "gzip"
    load_weights(other, tmp_path / "a.h5", by_name=False)
    for found, value in zip(values(other), values(model), strict=True):
        np.testing.assert_array_equal(found, value.astype(np.float16).astype(np.float32))


def test_what_float16_cannot_hold_keeps_its_type_when_weights_are_packed(tmp_path):
    model, other = build_model(), build_model(seed=1)
    variance = np.array([1e6, 1, 2, 3], np.float32)
    model.get_layer("bn_conv1").moving_variance.assign(variance)
    save_weights(model, tmp_path / "a.h5")
    repack_weights(tmp_path / "a.h5", tmp_path / "packed.h5")
    save_weights(model, tmp_path / "b.h5", dtype="float16")
    for name in ("packed.h5", "b.h5"):
        with h5py.File(tmp_path / name) as file:
            assert file["conv1"]["conv1/kernel:0"].dtype == np.float16
        load_weights(other, tmp_path / name, by_name=False)
        np.testing.assert_array_equal(other.get_layer("bn_conv1").moving_variance, variance)


def test_a_list_of_names_too_long_for_one_attribute(tmp_path):
    names = [f"{'x' * 200}{number:04d}" for number in range(400)]
    inputs = x = keras.Input((1,), name="i")
    for name in names:
        x = layers.Identity(name=name)(x)
    model = keras.Model(inputs, layers.Dense(1, name="last")(x))
    save_weights(model, tmp_path / "a.h5")
    expected = values(model)
    model.set_weights([np.full(w.shape, 3.0) for w in expected])
    load_weights(model, tmp_path / "a.h5", by_name=False)
    assert_same(model, expected)
    model.set_weights([np.full(w.shape, 3.0) for w in expected])
    model.load_weights(tmp_path / "a.h5")
    assert_same(model, expected)


def test_two_layers_of_one_name_in_one_group_are_refused(tmp_path):
    inner = [
        keras.Sequential([keras.Input((2,)), layers.Dense(2, name="same")], name=f"part{number}") for number in range(2)
    ]
    model = keras.Sequential([keras.Input((2,)), keras.Sequential(inner, name="both")])
    with pytest.raises(WeightsFileError, match="two layers inside both are named same"):
        save_weights(model, tmp_path / "a.h5")


def test_read_layers_keeps_layers_of_one_name_apart(tmp_path):
    groups = {name: {"up/kernel:0": np.full((2, 2), i), "x/bias:0": np.ones(1)} for i, name in enumerate("ab")}
    found = read_layers(write_file(tmp_path / "a.h5", groups))
    assert set(found) == {"a/up", "b/up", "a/x", "b/x"}
    assert found["b/up"]["kernel"][0, 0] == 1


def test_assign_fits_by_name_and_says_what_does_not(tmp_path):
    layer = build_model().get_layer("conv1")
    bias, kernel = np.ones(4, np.float32), np.ones((3, 3, 3, 4), np.float32)
    assign(layer, {"bias": bias, "kernel": kernel}, "resnet.h5")
    np.testing.assert_array_equal(np.array(layer.get_weights()[0]), kernel)
    with pytest.raises(WeightsFileError, match=r"resnet\.h5: layer conv1: the file has kernel, the model"):
        assign(layer, {"kernel": kernel}, "resnet.h5")


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("none.h5", None, "no such weights file"),
        ("text.h5", b"<html>404</html>" * 100, "not a readable HDF5 file"),
        ("empty.h5", b"", "not a readable HDF5 file"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, name, content, cause):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsFileError, match=f"{name}: .*{cause}"):
        load_weights(build_model(), tmp_path / name)


def test_a_whole_model_is_distinguished_from_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(WeightsFileError, match=r"a\.keras: .*It is a whole model"):
        load_weights(build_model(), tmp_path / "a.keras")


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_a_truncated_file_is_named_and_the_model_unchanged(tmp_path, keep):
    save_weights(build_model(), tmp_path / "a.h5")
    content = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(content[: int(len(content) * keep)])
    model = build_model(seed=1)
    with pytest.raises(WeightsFileError, match=r"a\.h5: not a readable HDF5 file"):
        load_weights(model, tmp_path / "a.h5")
    assert_same(model, values(build_model(seed=1)))


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda file: file.attrs.__delitem__("layer_names"), "no attribute `layer_names`"),
        (lambda file: file.__delitem__("conv1"), "the layer conv1 is listed but not there"),
        (lambda file: file["conv1"].attrs.__delitem__("weight_names"), "conv1 does not list its weights"),
        (lambda file: file.__delitem__("conv1/conv1/bias:0"), "conv1/bias:0 of the layer conv1 is not there"),
    ],
)
def test_a_damaged_layout_is_named(tmp_path, damage, cause):
    save_weights(build_model(), tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        damage(file)
    with pytest.raises(WeightsFileError, match=rf"a\.h5: .*{cause}"):
        load_weights(build_model(), tmp_path / "a.h5")


def test_keras_3s_own_layout_is_recognised(tmp_path):
    build_model().save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(WeightsFileError, match="not a weights file in the legacy Keras HDF5 layout"):
        load_weights(build_model(), tmp_path / "a.weights.h5")


def test_a_repacked_file_is_smaller_and_loads_like_the_original(tmp_path):
    model, other = build_model(), build_model(seed=1)
    save_weights(model, tmp_path / "full.h5")
    with h5py.File(tmp_path / "full.h5", "a") as file:
        file.create_group("training_state").create_dataset("momentum", data=np.ones(10_000))
    repack_weights(tmp_path / "full.h5", tmp_path / "half.h5")
    with h5py.File(tmp_path / "half.h5") as file:
        assert "training_state" not in file
        assert file["conv1/conv1/kernel:0"].dtype == np.float16
    assert (tmp_path / "half.h5").stat().st_size < (tmp_path / "full.h5").stat().st_size
    load_weights(other, tmp_path / "half.h5", by_name=False)
    for found, value in zip(values(other), values(model), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-3)
    repack_weights(tmp_path / "full.h5", tmp_path / "same.h5", dtype=None)
    load_weights(other, tmp_path / "same.h5", by_name=False)
    assert_same(other, values(model))


def test_only_weights_files_can_be_repacked(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("x", data=[1.0])
    with pytest.raises(WeightsFileError, match=r"other\.h5: holds no weights"):
        repack_weights(tmp_path / "other.h5", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_models_own_methods_take_files_of_either_layout(tmp_path):
    plain = build_model()
    model, other = (LegacyModel(source.inputs, source.outputs) for source in (plain, build_model(seed=1)))
    expected = values(model)
    for name in ("lineage.h5", "keras3.weights.h5"):
        model.save_weights(tmp_path / name)
        other.set_weights([np.zeros_like(value) for value in expected])
        other.load_weights(tmp_path / name)
        assert_same(other, expected)
    assert "conv1" in read_layers(tmp_path / "lineage.h5")
    with pytest.raises(FileExistsError, match=r"lineage\.h5"):
        model.save_weights(tmp_path / "lineage.h5", overwrite=False)
    with pytest.raises(WeightsFileError, match=r"lineage\.h5"):
        LegacyModel(*build_small()).load_weights(str(tmp_path / "lineage.h5"))
    partly = LegacyModel(*build_small())
    partly.load_weights(tmp_path / "lineage.h5", by_name=True)
    np.testing.assert_array_equal(values(partly)[0], expected[0])


def build_small():
    """The inputs and outputs of a model that has one layer of `build_model` and one more."""
    image = keras.Input((8, 8, 3), name="input_image")
    x = layers.Conv2D(4, 3, padding="same", name="conv1")(image)
    return image, layers.Conv2D(1, 1, name="another")(x)

"""HDF5 files are self-contained: data of other files are never read, and a failed write names the file meant."""

import resource

import h5py
import keras
import numpy as np
import pytest

from trainkit.checkpoint import read_training_state, save_checkpoint, strip_training_state
from trainkit.hdf5 import WeightsFileError, load_weights, repack_weights, save_weights
from trainkit.hdf5_files import open_for_reading
from trainkit.hdf5_layout import read_layers
from trainkit.legacy_model import LegacyModel

_SECRET = b"a local file that is nobody's business"


def _model(units=3):
    image = keras.Input((4,), name="image")
    hidden = keras.layers.Dense(units, name="first")(image)
    return keras.Model(image, keras.layers.Dense(2, name="second")(hidden))


def _weights(model):
    return [np.array(value) for value in model.get_weights()]


def _assert_unchanged(model, before):
    assert all(np.array_equal(*pair) for pair in zip(_weights(model), before, strict=True))


def _external_storage(file, name, folder):
    del file[name]
    file.create_dataset(name, (2,), "f4", external=[(str(folder / "secret.bin"), 0, 8)])


def _external_link(file, name, folder):
    del file[name]
    file[name] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def _soft_link(file, name, folder):
    del file[name]
    file["way_out"] = h5py.ExternalLink(str(folder / "other.h5"), "/")
    file[name] = h5py.SoftLink("/way_out/secret")


def _virtual(file, name, folder):
    del file[name]
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (2,))
    file.create_virtual_dataset(name, layout)


@pytest.fixture
def crafted(tmp_path):
    """Returns a function that makes a checkpoint whose last bias is brought in from elsewhere."""
    (tmp_path / "secret.bin").write_bytes(_SECRET)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.arange(2, dtype=np.float32)

    def craft(change, name="second/second/bias:0"):
        path = tmp_path / "crafted.h5"
        save_checkpoint(path, _model(), epoch=1, seed=0, stage={})
        with h5py.File(path, "r+") as file:
            change(file, name, tmp_path)
        return path

    return craft


@pytest.mark.parametrize("change", [_external_storage, _external_link, _soft_link, _virtual])
def test_data_of_other_files_are_refused_wherever_hdf5_is_read(crafted, tmp_path, change):
    path, model = crafted(change), _model()
    before = _weights(model)
    readers = (
        lambda: load_weights(model, path),
        lambda: read_layers(path),
        lambda: read_training_state(path),
        lambda: strip_training_state(path),
        lambda: repack_weights(path, tmp_path / "packed.h5"),
    )
    for read in readers:
        with pytest.raises(WeightsFileError, match=r"crafted\.h5: .*(link to another place|are in another file)"):
            read()
    _assert_unchanged(model, before)
    assert not (tmp_path / "packed.h5").exists()


def test_data_of_other_files_are_refused_in_parts_that_nobody_reads(crafted):
    def aside(file, _, folder):
        file["group/aside"] = np.zeros(3)
        _external_storage(file, "group/aside", folder)

    with pytest.raises(WeightsFileError, match="/group/aside are in another file"):
        load_weights(_model(), crafted(aside))


def test_keras_own_layout_gets_the_same_check(tmp_path):
    plain = _model()
    model = LegacyModel(plain.inputs, plain.outputs)
    path = tmp_path / "a.weights.h5"
    model.save_weights(path)
    (tmp_path / "secret.bin").write_bytes(_SECRET)
    with h5py.File(path, "r+") as file:
        _external_storage(file, "layers/dense_1/vars/1", tmp_path)
    with pytest.raises(WeightsFileError, match=r"a\.weights\.h5: .*are in another file"):
        model.load_weights(path)


def test_circles_and_odd_members_do_not_stop_the_check(crafted):
    def odd(file, *_):
        file["first/above"] = file["/"]
        file["type"], file["empty"] = np.dtype("f8"), h5py.Empty("f4")

    path = crafted(odd)
    with open_for_reading(path) as file:
        assert "second" in file
    assert "second" in read_layers(path)


def test_a_file_that_would_fill_the_memory_is_refused_unread(crafted):
    def inflate(file, name, _):
        del file[name]
        file.create_dataset(name, (2**20, 2**20), "f4", chunks=(1024, 1024), compression="gzip")

    with pytest.raises(WeightsFileError, match=r"crafted\.h5: .*would expand to"):
        load_weights(_model(), crafted(inflate))


def test_a_heap_that_hdf5_would_read_for_ever_is_refused(crafted):
    path = crafted(lambda *_: None)
    data = bytearray(path.read_bytes())
    heap = data.find(b"GCOL")
    # The free space at the end: its index is 0, and its size becomes 0.
    at = heap + 16
    while any(data[at : at + 2]):
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    data[at + 8 : at + 16] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(WeightsFileError, match=r"crafted\.h5: .*its text of variable length is damaged"):
        read_training_state(path)


def test_values_whose_reading_may_end_the_program_are_refused(crafted):
    def compose(file, *_):
        file.create_dataset("ragged", (1,), dtype=h5py.vlen_dtype(np.int64))

    with pytest.raises(WeightsFileError, match=r"crafted\.h5: .*/ragged holds composed values"):
        read_layers(crafted(compose))


def _replaced(values):
    def change(file, name, _):
        del file[name]
        file[name] = values

    return change


@pytest.mark.parametrize(
    "values",
    [
        np.array([b"ab", b"cd"]),
        np.array([1j, 2]),
        np.array(["a", "b"], object),
        np.array([1, 2]),
        np.array([True, False]),
        np.array([1, np.nan], np.float32),
        np.array([1, 1e300]),
        np.array([(1, 2.0), (3, 4.0)], "i4,f4"),
        h5py.Empty("f4"),
    ],
    ids=["bytes", "complex", "object", "whole", "bool", "nan", "beyond float32", "compound", "empty"],
)
def test_weights_of_another_type_change_no_layer(crafted, values):
    model = _model()
    before = _weights(model)
    path = crafted(_replaced(values))
    with pytest.raises(WeightsFileError, match=r"crafted\.h5"):
        load_weights(model, path)
    _assert_unchanged(model, before)


@pytest.mark.parametrize("values", [np.array([1, 2], np.float16), np.array([1.5, 2.5])])
def test_floats_of_another_precision_are_loaded(crafted, values):
    model = _model()
    load_weights(model, crafted(_replaced(values)))
    np.testing.assert_array_equal(_weights(model)[-1], values.astype(np.float32))


@pytest.fixture
def full_disk():
    """Returns a function that lets no file grow beyond 8 KiB, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["weights", "checkpoint", "packed"])
def test_a_full_disk_is_reported_for_the_file_meant_and_leaves_the_old_one(tmp_path, full_disk, kind):
    model, path = _model(units=5000), tmp_path / "result.h5"
    save_weights(model, tmp_path / "source.h5")
    path.write_bytes(b"before")
    full_disk()
    with pytest.raises(OSError) as error:
        if kind == "weights":
            save_weights(model, path)
        elif kind == "checkpoint":
            save_checkpoint(path, model, epoch=1, seed=0, stage={})
        else:
            repack_weights(tmp_path / "source.h5", path)
    assert error.value.filename == str(path) and error.value.errno
    assert str(path) in str(error.value) and ".result." not in str(error.value)
    assert path.read_bytes() == b"before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["result.h5", "source.h5"]

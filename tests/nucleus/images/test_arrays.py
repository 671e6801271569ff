"""Arrays of any library, type and axes become images by the rules of files, and none is guessed."""

import numpy as np
import pytest

from nucleus.datasets.dataset import shipped_data
from nucleus.images.arrays import as_images
from nucleus.images.decoding import Planes
from nucleus.images.reading import read_image, to_rgb
from nucleus.models.loading import load_model

FIELD = read_image(min(shipped_data().glob("stage1_train/*/images/*.png"), key=lambda path: path.stat().st_size))
# Planes x channels x rows x columns.
STACK = np.stack([np.stack([FIELD[..., 1] * np.uint16(k), FIELD[::-1, :, 0] * np.uint16(9)]) for k in (3, 1, 7)])


@pytest.fixture(params=["numpy", "dask", "zarr"])
def stack(request, tmp_path):
    """The stack as an array of each library."""
    if request.param == "numpy":
        return STACK
    if request.param == "dask":
        return pytest.importorskip("dask.array").from_array(STACK, chunks=(1, 1, 50, 60))
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(store=tmp_path / "a.zarr", shape=STACK.shape, chunks=(1, 1, 50, 60), dtype=STACK.dtype)
    stored[:] = STACK
    return stored


def test_arrays_of_every_library_are_read_by_their_axes(stack):
    (one,) = as_images(stack, "ZCYX", Planes(channel=2, plane=3))
    np.testing.assert_array_equal(one, to_rgb(STACK[2, 1]))
    every = as_images(stack, "ZCYX", Planes(channel=1, plane="all"))
    assert len(every) == 3
    np.testing.assert_array_equal(every[1], to_rgb(STACK[1, 0]))
    (highest,) = as_images(stack, "ZCYX", Planes(channel=1, project="max"))
    np.testing.assert_array_equal(highest, to_rgb(STACK[:, 0].max(axis=0)))
    (grey,) = as_images([stack[0, 0]])
    np.testing.assert_array_equal(grey, to_rgb(STACK[0, 0]))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32, np.float32, np.float64, ">u2", ">f4"])
def test_arrays_of_every_type_are_read(dtype):
    (image,) = as_images((FIELD[..., 0] > 60 if dtype is bool else FIELD[..., 0]).astype(dtype))
    assert image.dtype == np.uint8 and image.shape == FIELD.shape
    assert image.max() > 200 or dtype == np.uint8


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((3, 60, 70), np.uint8, r"seems to have them first.*axes=\"CYX\""),
        ((60, 70, 2), np.uint8, "channels that are no colours: choose one"),
        ((60, 70, 4), np.uint16, "channels that are no colours: choose one"),
        ((9, 60, 70), np.uint8, r"axes=\"ZYX\", plane=1"),
        ((2, 3, 4, 60, 70), np.uint8, "Expected an image"),
        ((60,), np.uint8, "Expected an image"),
        ((0, 60), np.uint8, "with pixels"),
        ((60, 70), complex, "real numbers"),
    ],
)
def test_an_array_of_unknown_meaning_is_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        as_images(np.zeros(shape, dtype))


@pytest.mark.parametrize(
    ("axes", "planes", "message"),
    [
        ("ZCYX", Planes(plane=1), "holds 2 channels that are no colours"),
        ("ZCYX", Planes(channel=1), "holds a stack: 3 planes"),
        ("ZCYX", Planes(channel=3, plane=1), "no channel '3'"),
        ("CYX", Planes(channel=1), "expected axes for each dimension"),
        ("ZCYY", Planes(channel=1), "expected axes for each dimension"),
        ("ZCYQ", Planes(channel=1), "expected axes for each dimension"),
        ("TSYX", Planes(frame=1), "3 or 4 samples of colour"),
    ],
)
def test_a_choice_that_does_not_fit_an_array_is_refused(axes, planes, message):
    with pytest.raises(ValueError, match=message):
        as_images(STACK, axes, planes)


def test_channels_last_need_no_axes_where_one_is_chosen():
    last = np.moveaxis(STACK[0], 0, -1)
    np.testing.assert_array_equal(as_images(last, planes=Planes(channel=2))[0], to_rgb(STACK[0, 1]))


def test_predict_takes_the_same_choice():
    model = load_model("classical/otsu")
    found = model.predict(STACK, axes="ZCYX", channel=1, plane="all")
    assert len(found) == 3
    np.testing.assert_array_equal(found[2].labels, model.predict(STACK[2, 0])[0].labels)
    with pytest.raises(ValueError, match="2 channels"):
        model.predict(STACK, axes="ZCYX", plane=1)


def test_what_is_no_array_is_refused():
    with pytest.raises(ValueError, match=r"Expected an array or a list of arrays\. Received: int"):
        as_images(3)

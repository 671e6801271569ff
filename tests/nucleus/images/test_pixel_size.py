"""The size of a pixel is read where a file states it, and never made of a resolution for print."""

import numpy as np
import pytest
import tifffile

import nucleus
from nucleus.images.reading import read_raw

FIELD = nucleus.read_image(sorted(nucleus.shipped_data().glob("stage1_train/*/images/*.png"))[0])[..., 0]


def ome(x, y=None, unit=None):
    sizes = {"PhysicalSizeX": x, "PhysicalSizeY": x if y is None else y}
    units = {} if unit is None else {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    return {"ome": True, "metadata": {"axes": "YX", **sizes, **units}}


def imagej(per_unit, unit):
    return {"imagej": True, "resolution": (per_unit, per_unit), "metadata": {"unit": unit}}


def tags(per_unit, unit):
    return {"resolution": (per_unit, per_unit), "resolutionunit": unit, "metadata": None}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ome(0.325), 0.325),
        (ome(325, unit="nm"), 0.325),
        (ome(12.5), 12.5),
        (ome(3, unit="pixel"), None),
        (ome(0.325, 0.326), 0.3255),
        (imagej(4, "um"), 0.25),
        (imagej(4, "micron"), 0.25),
        (imagej(4, "\\u00B5m"), 0.25),
        (imagej(0.02, "um"), 50),
        (imagej(4000, "mm"), 0.25),
        (imagej(4, "pixel"), None),
        (imagej(300, "inch"), None),
        (tags(40_000, "CENTIMETER"), 0.25),
        (tags(25_400 * 2, "INCH"), 0.5),
        (tags(72, "INCH"), None),
        (tags(2400, "INCH"), None),
        (tags(300, "CENTIMETER"), None),
        (tags(4, "NONE"), None),
        ({}, None),
    ],
)
def test_the_size_of_a_pixel_is_what_the_file_states(tmp_path, options, expected):
    tifffile.imwrite(tmp_path / "a.tif", FIELD, **options)
    size = read_raw(tmp_path / "a.tif").pixel_size
    assert size is None if expected is None else size == pytest.approx(expected, rel=1e-4)


def test_pixels_that_are_not_square_are_named_and_have_no_size(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", FIELD, **ome(0.3, 0.6))
    assert read_raw(tmp_path / "a.tif").pixel_size is None
    assert "a.tif: pixels of 0.3 x 0.6 µm are not square" in caplog.text


def test_a_data_set_may_be_given_the_size_of_a_pixel(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FIELD, **ome(0.3))
    sizes = []
    for options in ({}, {"pixel_size": 0.5}, {"pixel_size": 0.5, "fit": 2 * max(FIELD.shape)}):
        dataset = nucleus.NucleusDataset(**options)
        dataset.load_images(tmp_path)
        dataset.prepare()
        sizes.append(dataset.load_raw(0).pixel_size)
    assert sizes == pytest.approx([0.3, 0.5, 0.25])


def test_pngs_have_no_size():
    path = next(nucleus.shipped_data().glob("stage1_train/*/images/*.png"))
    raw = read_raw(path)
    assert raw.pixel_size is None and raw.pixels.dtype == np.uint8

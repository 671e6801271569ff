"""CZI, ND2 and LIF: bioio's scenes, axes, channels and pixel size are what is read; without it the extra is named."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from nucleus.images.decoding import Planes
from nucleus.images.decoding.bio import FORMATS
from nucleus.images.reading import ImageFileError, list_images, read_image, read_labels, read_raw, to_rgb

HEADS = {name: signature.ljust(8, b"\0") + b"\x2a" + bytes(90) for name, signature in FORMATS.items()}
HEADS["CZI"] = FORMATS["CZI"] + bytes(90)
STACK = np.random.default_rng(0).integers(0, 4000, (2, 2, 3, 20, 30), np.uint16)


class FakeImage:
    """The part of `bioio.BioImage` that is used: two scenes, the second at twice the samples."""

    scenes = ("Image:0", "Image:1")
    channel_names = ("DAPI", "GFP")
    physical_pixel_sizes = SimpleNamespace(Z=1.0, Y=0.25, X=0.25)

    def __init__(self, path):
        self.order, self.array = "TCZYX", STACK

    def set_scene(self, index):
        self.array = self.array * (1 + index)

    @property
    def dims(self):
        return SimpleNamespace(order=self.order)

    @property
    def dask_data(self):
        return self.array


@pytest.fixture
def bioio(monkeypatch):
    """A stand-in for bioio; returns its class of images."""
    module = ModuleType("bioio")
    module.BioImage = type("BioImage", (FakeImage,), {})
    monkeypatch.setitem(sys.modules, "bioio", module)
    return module.BioImage


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    path = tmp_path / f"a.{request.param.lower()}"
    path.write_bytes(HEADS[request.param])
    return path


def test_without_bioio_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(ImageFileError, match=rf"is a {path.suffix[1:].upper()} file.*keras-nucleus\[formats\]"):
        read_image(path)
    assert list_images(path.parent) == [path]


def test_a_reader_that_is_missing_names_the_extra(path, bioio):
    class UnsupportedFileFormatError(Exception):
        pass

    def refuse(self, path):
        raise UnsupportedFileFormatError("no plugin")

    bioio.__init__ = refuse
    with pytest.raises(ImageFileError, match=r"bioio cannot read here.*keras-nucleus\[formats\]"):
        read_image(path)


def test_scenes_channels_planes_and_frames_are_chosen(path, bioio):
    with pytest.raises(ImageFileError, match="2 separate images, 1 Image:0, 2 Image:1"):
        read_image(path)
    with pytest.raises(ImageFileError, match=r"2 frames.*3 planes.*1 DAPI, 2 GFP"):
        read_image(path, scene=1)
    chosen = read_image(path, scene="Image:0", channel="GFP", plane=3, frame=2)
    np.testing.assert_array_equal(chosen, to_rgb(STACK[1, 1, 2]))
    raw = read_raw(path, Planes("DAPI", project="max", frame=1, scene=2))
    assert raw.pixel_size == 0.25 and raw.channels == ("DAPI", "GFP")
    np.testing.assert_array_equal(raw.visible(), 2 * STACK[0, 0].max(axis=0))
    assert read_image(path, scene=1, channel=1, plane="all", frame="all").shape == (6, 20, 30, 3)


def test_colour_and_unknown_axes(path, bioio):
    bioio.scenes = ("Image:0",)
    colour = np.moveaxis(STACK[0, :1, :, None], 1, -1)
    bioio.__init__ = lambda self, path: vars(self).update(order="TCYXS", array=colour)
    np.testing.assert_array_equal(read_image(path), to_rgb(colour[0, 0]))
    bioio.__init__ = lambda self, path: vars(self).update(order="MCYX", array=STACK[0])
    with pytest.raises(ImageFileError, match=r"axes of an unknown meaning: M \(2\)"):
        read_image(path, channel=1)


def test_a_damaged_file_and_labels_are_named(path, bioio):
    def fail(self, path):
        raise RuntimeError("bad block")

    bioio.__init__ = fail
    with pytest.raises(ImageFileError, match=r"a\.\w+: the \w+ file is truncated or damaged .*bad block"):
        read_image(path)
    with pytest.raises(ImageFileError, match="holds images, no labels"):
        read_labels(path)


def test_channels_of_colours_each_are_listed(bioio, path):
    bioio.__init__ = lambda self, path: vars(self).update(order="CYXS", array=np.zeros((2, 20, 30, 3), np.uint8))
    with pytest.raises(ImageFileError, match=r"2 channels of colours each \(1 DAPI, 2 GFP\): save the one"):
        read_image(path, scene=1)

"""Protects the registry of classes and images, and how the base class reads an image."""

import numpy as np
import pytest
import skimage.io
import tifffile

from mrcnn.dataset import Dataset


def test_dataset_identifiers():
    dataset = Dataset()
    assert len(dataset.image_ids) == 0
    dataset.add_class("cells", 7, "round cell, any stain")
    dataset.add_class("cells", 7, "again")
    dataset.add_class("dust", 7, "speck")
    dataset.add_image("cells", image_id="a", path="a.png", depth=3)
    dataset.add_image("dust", image_id="b", path="b.png")
    dataset.prepare()
    assert dataset.num_classes == 3 and dataset.num_images == 2
    assert dataset.class_names == ["BG", "round cell", "speck"]
    assert dataset.image_ids.tolist() == [0, 1] and dataset.class_ids.tolist() == [0, 1, 2]
    assert dataset.map_source_class_id("dust.7") == 2
    assert dataset.image_from_source_map == {"cells.a": 0, "dust.b": 1}
    assert dataset.get_source_class_id(1, "cells") == 7
    assert dataset.source_class_ids == {"": [0], "cells": [0, 1], "dust": [0, 2]}
    assert dataset.source_image_link(1) == "b.png" and dataset.image_reference(1) == ""
    assert dataset.image_info[0]["depth"] == 3
    masks_found, class_ids = dataset.load_mask(0)
    assert masks_found.shape == (0, 0, 0) and class_ids.dtype == np.int32
    assert dataset.load_labels(0) is None


def test_dataset_refuses_what_it_cannot_do():
    dataset = Dataset()
    with pytest.raises(ValueError, match="dot"):
        dataset.add_class("a.b", 1, "x")
    with pytest.raises(ValueError, match="source ''"):
        dataset.get_source_class_id(0, "cells")
    with pytest.raises(ValueError, match="Class maps"):
        dataset.prepare(class_map={})


@pytest.mark.parametrize("kind", ["gray", "rgb", "rgba", "gray with alpha"])
def test_dataset_reads_any_png_as_rgb(tmp_path, kind):
    rng = np.random.default_rng(13)
    gray = rng.integers(0, 256, (9, 11), dtype=np.uint8)
    rgba = rng.integers(0, 256, (9, 11, 4), dtype=np.uint8)
    stored, expected = {
        "gray": (gray, np.stack([gray] * 3, axis=-1)),
        "gray with alpha": (rgba[..., :2], np.stack([rgba[..., 0]] * 3, axis=-1)),
        "rgb": (rgba[..., :3], rgba[..., :3]),
        "rgba": (rgba, rgba[..., :3]),
    }[kind]
    path = tmp_path / "image.png"
    skimage.io.imsave(path, stored, check_contrast=False)
    dataset = Dataset()
    dataset.add_image("x", 0, str(path))
    image = dataset.load_image(0)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_dataset_names_the_file_it_cannot_read(tmp_path):
    path = tmp_path / "stack.tif"
    skimage.io.imsave(path, np.zeros((5, 6, 7, 3), np.uint8), check_contrast=False)
    dataset = Dataset()
    dataset.add_image("x", 0, str(path))
    with pytest.raises(ValueError, match=r"stack\.tif: expected one image"):
        dataset.load_image(0)


def read(path):
    dataset = Dataset()
    dataset.add_image("x", 0, str(path))
    return dataset.load_image(0)


@pytest.mark.parametrize("options", [{"rowsperstrip": 8}, {"tile": (16, 16)}])
def test_dataset_refuses_a_tiff_that_lacks_strips_or_tiles_instead_of_reading_black(tmp_path, options):
    path, scene = tmp_path / "part.tif", np.full((32, 48), 200, np.uint8)
    tifffile.imwrite(path, scene, compression="zlib", **options)
    assert read(path).min() == 200
    kind = "Tile" if "tile" in options else "Strip"
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in (f"{kind}Offsets", f"{kind}ByteCounts"):
            file.filehandle.seek(file.pages[0].tags[tag].offset + 4)
            file.filehandle.write((3).to_bytes(4, "little"))
    with pytest.raises(
        ValueError, match=rf"part\.tif: the TIFF is .*damaged: it has 3 {kind.lower()}s, its size needs"
    ):
        read(path)


@pytest.mark.parametrize("name", ["cut.png", "cut.jpg", "cut.tif", "absent.png"])
def test_dataset_names_a_damaged_file(tmp_path, name):
    path = tmp_path / name
    if path.stem == "cut":
        skimage.io.imsave(path, np.random.default_rng(1).integers(0, 256, (60, 70), np.uint8), check_contrast=False)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{path.name}: "):
        read(path)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_dataset_reads_12_bits_in_a_larger_type_as_bright_as_they_are(tmp_path, dtype):
    scene = np.random.default_rng(1).integers(0, 4096, (30, 40)).astype(dtype)
    tifffile.imwrite(tmp_path / "scene.tif", scene)
    image = read(tmp_path / "scene.tif")
    assert image.dtype == np.uint8 and image.shape == (30, 40, 3)
    assert image.min() == 0 and image.max() == 255
    assert np.abs(image[..., 0] - scene / 4095 * 255).max() < 2


def test_dataset_drops_alpha_from_a_tiff_and_refuses_channels_of_other_meaning(tmp_path):
    rgba = np.random.default_rng(1).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "rgba.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read(tmp_path / "rgba.tif"), rgba[..., :3])
    for name, stack in (("four", rgba), ("two", rgba[..., :2]), ("five", np.repeat(rgba[..., :1], 5, axis=-1))):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, photometric="minisblack", planarconfig="contig")
        with pytest.raises(ValueError, match=rf"{name}\.tif: expected one image.*Override load_image"):
            read(tmp_path / f"{name}.tif")

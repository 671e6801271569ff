"""Regions of images in every lazily read format are those of the whole image, with one scale."""

import sys

import numpy as np
import pytest
import tifffile

from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.images.decoding import Planes, tiff_pages
from nucleus.images.decoding.array import ArrayImage
from nucleus.images.lazy import choose_level, open_lazy
from nucleus.images.reading import ImageFileError, read_image, read_raw, read_shape, to_rgb
from nucleus.images.tissue import is_glass

(PATH,) = shipped_data().glob("stage1_train/da5f*/images/*.png")
FIELD = read_image(PATH)[:512, :600]
# Two channels of 16 bits.
CHANNELS = np.stack([FIELD[..., 1].astype(np.uint16) * 70, FIELD[::-1, :, 0].astype(np.uint16) * 50])
REGIONS = [(0, 512, 0, 600), (37, 190, 255, 513), (500, 512, 590, 600), (64, 128, 64, 128)]


def write_pyramid(path):
    options = {"tile": (64, 64), "photometric": "minisblack", "compression": "zlib"}
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(CHANNELS, subifds=2, metadata=metadata, **options)
        for factor in (2, 4):
            file.write(np.ascontiguousarray(CHANNELS[:, ::factor, ::factor]), subfiletype=1, **options)


def write_zarr(path, version):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w", zarr_format=version)
    scales = []
    for level, factor in enumerate((1, 2)):
        pixels = CHANNELS[:, None, ::factor, ::factor]
        array = group.create_array(str(level), shape=pixels.shape, chunks=(1, 1, 100, 100), dtype=pixels.dtype)
        array[:] = pixels
        scale = {"type": "scale", "scale": [1, 1, 0.25 * factor, 0.25 * factor]}
        scales.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    about = {
        "multiscales": [{"axes": axes, "datasets": scales}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]},
    }
    group.attrs.update(about if version == 2 else {"ome": about})
    return group


def write_slide(path):
    pytest.importorskip("openslide")
    description = "Aperio Image Library v10.0.50\r\n600x512 [0,0 600x512] (64x64) |AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as file:
        file.write(FIELD, tile=(64, 64), photometric="rgb", description=description, metadata=None, software=False)
        thumbnail = np.ascontiguousarray(FIELD[::8, ::8])
        file.write(thumbnail, photometric="rgb", description="Aperio", metadata=None, rowsperstrip=16)
        level = np.ascontiguousarray(FIELD[::4, ::4])
        file.write(level, tile=(64, 64), photometric="rgb", description="Aperio", metadata=None)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (64, 128)},
        {"tile": (64, 64), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 7, "compression": "zlib"},
        {"rowsperstrip": 512},
        {"tile": (64, 64), "planarconfig": "separate"},
        {"rowsperstrip": 9, "planarconfig": "separate", "bigtiff": True},
    ],
)
@pytest.mark.parametrize("region", REGIONS)
def test_regions_of_a_tiff_are_parts_of_the_whole(tmp_path, options, region):
    pixels = np.moveaxis(FIELD, -1, 0) if "planarconfig" in options else FIELD
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **options)
    y0, y1, x0, x1 = region
    with open_lazy(tmp_path / "a.tif") as image:
        assert image.regional and image.shape == FIELD.shape and image.dtype == np.uint8
        np.testing.assert_array_equal(image.region(*region), FIELD[y0:y1, x0:x1])


def test_only_the_tiles_that_a_region_meets_are_decoded(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", FIELD, photometric="rgb", tile=(64, 64), compression="zlib")
    with open_lazy(tmp_path / "a.tif") as image:
        handle, read = image._image.file.filehandle, []
        original = type(handle).read
        monkeypatch.setattr(type(handle), "read", lambda self, size=-1: read.append(size) or original(self, size))
        image.region(70, 120, 70, 130)
    # Two tiles, of which one lies beside the other.
    assert len(read) == 2


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", ["tiff", "zarr2", "zarr3"])
def test_regions_of_channels_and_pyramids(tmp_path, kind, region):
    path = tmp_path / ("a.ome.tif" if kind == "tiff" else "a.zarr")
    write_pyramid(path) if kind == "tiff" else write_zarr(path, int(kind[-1]))
    with pytest.raises(ImageFileError, match=r"a\.(ome\.tif|zarr): holds 2 channels .*1 DAPI, 2 GFP"):
        open_lazy(path)
    y0, y1, x0, x1 = region
    with open_lazy(path, Planes("GFP")) as image:
        # 16 bits: every region has the scale of the whole.
        np.testing.assert_array_equal(image.region(*region), to_rgb(CHANNELS[1])[y0:y1, x0:x1])
        assert image.pixel_size == 0.25 and image.channels == ("GFP",)
        seen, factor = image.glance(*region)
        assert factor == (4 if kind == "tiff" else 2) and abs(seen.shape[0] - (y1 - y0) / factor) <= 1
        assert not image.chosen and image.at_level(1).chosen
    with open_lazy(path, Planes("GFP"), level=1, pixel_size=0.3) as image:
        assert image.shape == (256, 300, 3) and image.pixel_size == 0.6
    raw = read_raw(path, Planes("GFP"))
    np.testing.assert_array_equal(raw.visible(), CHANNELS[1])
    assert raw.channels == ("DAPI", "GFP") and raw.pixel_size == 0.25 and read_shape(path) == (512, 600)


def test_a_slide_is_read_by_regions_and_levels(tmp_path):
    write_slide(tmp_path / "a.svs")
    with open_lazy(tmp_path / "a.svs") as image:
        for y0, y1, x0, x1 in REGIONS:
            np.testing.assert_array_equal(image.region(y0, y1, x0, x1), FIELD[y0:y1, x0:x1])
        assert image.regional and image.pixel_size == 0.5
    with open_lazy(tmp_path / "a.svs", level=1) as image:
        np.testing.assert_array_equal(image.region(3, 90, 5, 70), FIELD[::4, ::4][3:90, 5:70])
        assert image.pixel_size == 2
    np.testing.assert_array_equal(read_image(tmp_path / "a.svs"), FIELD)


@pytest.mark.parametrize(("name", "package", "extra"), [("a.svs", "openslide", "slides"), ("a.zarr", "zarr", "zarr")])
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, name, package, extra):
    write_slide(tmp_path / name) if extra == "slides" else write_zarr(tmp_path / name, 2)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImageFileError, match=rf"keras-nucleus\[{extra}\]"):
        read_image(tmp_path / name)


def test_a_thumbnail_is_not_taken_for_its_slide(tmp_path):
    pytest.importorskip("openslide")
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff" + bytes(50))
    with pytest.raises(ImageFileError, match="the MRXS slide is truncated, damaged or not supported"):
        read_image(tmp_path / "a.mrxs")


def test_what_zarr_does_not_state_is_refused(tmp_path):
    zarr = pytest.importorskip("zarr")
    write_zarr(tmp_path / "a.zarr", 2).attrs["multiscales"] = [{"axes": "qwyx", "datasets": [{"path": "0"}]}]
    with pytest.raises(ImageFileError, match="axes 'QWYX'"):
        read_image(tmp_path / "a.zarr", channel=1)
    zarr.open_group(tmp_path / "b.zarr", mode="w", zarr_format=2)
    with pytest.raises(ImageFileError, match="zarr group without images"):
        read_image(tmp_path / "b.zarr")
    zarr.create_array(store=tmp_path / "c.zarr", shape=(3, 9, 9), dtype="u1")
    with pytest.raises(ImageFileError, match="whose axes nobody states"):
        read_image(tmp_path / "c.zarr")


def test_chunks_that_a_zarr_folder_lacks_are_counted_in_a_warning(tmp_path, caplog):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(store=tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype="u1", zarr_format=2)
    array[:] = 200
    assert read_image(tmp_path / "a.zarr").min() == 200 and not caplog.records
    (tmp_path / "a.zarr" / "0.1").unlink()
    assert read_image(tmp_path / "a.zarr").min() == 0
    assert f"{tmp_path / 'a.zarr'}: 1 of its 4 chunks are not stored" in caplog.text


def test_damage_that_shows_when_pixels_are_read_is_named(tmp_path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(store=tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype="u1", zarr_format=2)
    array[:] = 200
    (tmp_path / "a.zarr" / "0.1").write_bytes(b"no chunk")
    with pytest.raises(ImageFileError, match=r"a\.zarr: the OME-Zarr is truncated, incomplete or damaged"):
        read_image(tmp_path / "a.zarr")
    with open_lazy(tmp_path / "a.zarr") as image, pytest.raises(ImageFileError, match=r"a\.zarr: the OME-Zarr is"):
        image.region(0, 4, 4, 8)

    class Broken(np.ndarray):
        def __getitem__(self, _):
            raise KeyError("block")

    with pytest.raises(ImageFileError, match=r"the CZI file is .*damaged.*\(KeyError"):
        ArrayImage([np.zeros((4, 5), np.uint8).view(Broken)], "YX", source="CZI file").read(Planes())


def test_scenes_of_a_zarr_folder(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    for scene in ("0", "1"):
        write_zarr(tmp_path / "a.zarr" / scene, 2)
    with pytest.raises(ImageFileError, match="2 separate images"):
        read_image(tmp_path / "a.zarr", channel="GFP")
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr", channel="GFP", scene=2), to_rgb(CHANNELS[1]))


def test_a_folder_of_images_has_zarr_folders_among_them(tmp_path):
    write_zarr(tmp_path / "a.zarr", 2)
    (tmp_path / "b.zarr").mkdir()
    dataset = NucleusDataset()
    dataset.load_images(tmp_path)
    dataset.load_images(tmp_path / "a.zarr")
    assert [info["id"] for info in dataset.image_info] == ["a"]


def test_a_region_outside_the_image_and_a_missing_level_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FIELD, photometric="rgb")
    with open_lazy(tmp_path / "a.tif") as image:
        for region in ((0, 513, 0, 9), (5, 5, 0, 9), (-1, 4, 0, 9)):
            with pytest.raises(ValueError, match="Expected a region in 512 x 600 pixels"):
                image.region(*region)
    with pytest.raises(ImageFileError, match="no level 1"):
        open_lazy(tmp_path / "a.tif", level=1)


def test_damage_inside_a_tile_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", FIELD, photometric="rgb", tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[0].dataoffsets[3]
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[at : at + 30] = bytes(30)
    (tmp_path / "a.tif").write_bytes(data)
    with open_lazy(tmp_path / "a.tif") as image:
        image.region(0, 64, 0, 64)
        with pytest.raises(ImageFileError, match=r"a\.tif: the TIFF is truncated or damaged"):
            image.region(0, 64, 190, 250)


def test_compressions_without_a_codec_are_not_read_by_regions(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", FIELD, photometric="rgb")
    monkeypatch.setattr(tiff_pages.PageReader, "regional", False)
    with open_lazy(tmp_path / "a.tif") as image:
        assert not image.regional
        np.testing.assert_array_equal(image.region(3, 60, 9, 80), FIELD[3:60, 9:80])


@pytest.mark.parametrize(("downsampling", "level"), [(0.4, 0), (1, 0), (1.9, 0), (1.96, 1), (3.6, 1), (8, 2), (18, 2)])
def test_the_level_that_fits_a_scale_is_the_smallest_that_is_fine_enough(downsampling, level):
    assert choose_level([(800, 900), (400, 450), (100, 112)], downsampling) == level


def test_regions_with_tissue_are_looked_at_and_no_glass(tmp_path):
    slide = np.full((3000, 4000, 3), 240, np.uint8)
    slide[1000:1520, 3000:3600] = FIELD[:512, :600].repeat(2, 0)[:520] // 2 + 60
    tifffile.imwrite(tmp_path / "a.tif", slide, tile=(256, 256), photometric="rgb")
    with open_lazy(tmp_path / "a.tif") as image:
        regions = list(image.tissue())
    assert 1 <= len(regions) <= 6
    assert all(region.shape == (1024, 1024, 3) and np.ptp(region) > 60 for region in regions)


@pytest.mark.parametrize(
    "path", sorted(shipped_data().glob("stage1_train/*/images/*.png")), ids=lambda path: path.stem[:4]
)
def test_no_shipped_image_is_taken_for_glass(path):
    image = read_image(path)
    assert not is_glass(image) and not is_glass(image[::4, ::4], 4)


def test_glass_with_noise_and_dust_is_glass_until_a_nucleus_lies_on_it():
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(235, 3, (256, 256, 3)), 0, 255).astype(np.uint8)
    glass[9:12, 9:12] = 40
    assert is_glass(glass) and not is_glass(glass // 8)
    yy, xx = np.mgrid[:256, :256]
    glass[(yy - 100) ** 2 + (xx - 60) ** 2 < 25] = 150, 110, 190
    assert not is_glass(glass)

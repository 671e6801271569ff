"""Image files of every mode become uint8 RGB by the stated rules; files that cannot be used are named."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from nucleus.images.reading import ImageFileError, list_images, read_image, read_labels, read_mask

COLOUR = skimage.data.astronaut()[::8, ::6]
GREY = COLOUR[..., 1].copy()


def _save(tmp_path, pixels, name="image.png", mode=None, **options):
    path = tmp_path / name
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_colour_keeps_its_values_and_channel_order(tmp_path, suffix):
    np.testing.assert_array_equal(read_image(_save(tmp_path, COLOUR, f"image{suffix}")), COLOUR)


def test_jpeg_is_read_in_rgb_order(tmp_path):
    path = _save(tmp_path, COLOUR, "image.jpg", quality=95)
    np.testing.assert_allclose(read_image(path), np.asarray(Image.open(path).convert("RGB")), atol=3)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_grey_becomes_three_equal_channels(tmp_path, suffix):
    image = read_image(_save(tmp_path, GREY, f"image{suffix}"))
    np.testing.assert_array_equal(image, np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_dropped_not_blended(tmp_path, suffix, channels):
    colour = COLOUR if channels == 4 else GREY[..., None]
    alpha = np.linspace(0, 255, GREY.size).astype(np.uint8).reshape(*GREY.shape, 1)
    path = _save(tmp_path, np.concatenate([colour, alpha], axis=2), f"image{suffix}")
    np.testing.assert_array_equal(read_image(path), np.broadcast_to(colour, COLOUR.shape))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palette_gives_its_colours(tmp_path, suffix):
    path = _save(tmp_path, COLOUR, f"image{suffix}", mode="P")
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("name, options", [("a.png", {}), ("a.tif", {}), ("b.tif", {"compression": "group4"})])
def test_one_bit_becomes_black_and_white(tmp_path, name, options):
    image = read_image(_save(tmp_path, GREY > 100, name, **options))
    np.testing.assert_array_equal(image[..., 0], np.where(GREY > 100, 255, 0))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    path = _save(tmp_path, COLOUR, "image.tif", compression=compression)
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_tiff_where_white_is_zero_is_inverted(tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif")[..., 0], 255 - GREY)


def test_cmyk_tiff(tmp_path):
    inks = np.random.default_rng(0).integers(0, 256, (5, 6, 4), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", inks, photometric="separated")
    through = 1 - inks / 255
    expected = 255 * through[..., :3] * through[..., 3:]
    np.testing.assert_allclose(read_image(tmp_path / "image.tif"), expected, atol=0.51)


def test_planar_tiff(tmp_path):
    planes = np.moveaxis(COLOUR, 2, 0)
    tifffile.imwrite(tmp_path / "image.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif"), COLOUR)


@pytest.mark.parametrize("dtype, name", [(np.uint16, "a.png"), (np.uint16, "a.tif"), (np.float32, "a.tif")])
def test_deep_samples_are_scaled_by_their_own_percentiles(tmp_path, dtype, name):
    pixels = (np.random.default_rng(0).gamma(2.0, 900.0, (60, 70)) + 300).astype(dtype)
    if name.endswith("png"):
        cv2.imwrite(str(tmp_path / name), pixels)
    else:
        tifffile.imwrite(tmp_path / name, pixels)
    low, high = np.percentile(pixels, [0.1, 99.9])
    expected = np.round(np.clip((pixels.astype(float) - low) / (high - low), 0, 1) * 255)
    np.testing.assert_allclose(read_image(tmp_path / name)[..., 2], expected, atol=1)


def test_deep_colour_is_scaled_by_one_scale_for_all_channels(tmp_path):
    pixels = COLOUR.astype(np.uint16) * 40
    cv2.imwrite(str(tmp_path / "image.png"), pixels[..., ::-1])
    low, high = np.percentile(pixels, [0.1, 99.9])
    expected = np.round(np.clip((pixels - low) / (high - low), 0, 1) * 255)
    np.testing.assert_allclose(read_image(tmp_path / "image.png"), expected, atol=1)


def test_few_bright_pixels_survive_the_percentiles(tmp_path):
    pixels = np.zeros((100, 100), np.uint16)
    pixels[4, 5] = 900
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    image = read_image(tmp_path / "image.tif")
    assert image[4, 5, 0] == 255 and np.count_nonzero(image[..., 0]) == 1


def test_constant_and_not_finite_samples_are_black(tmp_path):
    tifffile.imwrite(tmp_path / "constant.tif", np.full((5, 6), 777, np.uint16))
    assert not read_image(tmp_path / "constant.tif").any()
    pixels = np.linspace(1, 2, 400, dtype=np.float32).reshape(20, 20)
    pixels[3, 4], pixels[5, 6] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "nan.tif", pixels)
    image = read_image(tmp_path / "nan.tif")
    assert not image[3, 4].any() and not image[5, 6].any() and image[19, 19, 0] == 255
    tifffile.imwrite(tmp_path / "all.tif", np.full((5, 6), np.nan, np.float32))
    assert not read_image(tmp_path / "all.tif").any()


def _empty_png():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 7, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "name, data, cause",
    [
        ("empty.png", b"", "empty"),
        ("text.png", b"not an image at all", "no PNG, TIFF, JPEG or BMP file"),
        ("zero.png", _empty_png(), "no pixels"),
        ("header.tif", b"II*\x00", "truncated or damaged"),
        ("header.bmp", b"BM", "cannot be decoded"),
    ],
)
def test_files_that_are_no_image_are_named_with_the_cause(tmp_path, name, data, cause):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageFileError, match=rf"{name}: .*{cause}"):
        read_image(tmp_path / name)
    with pytest.raises(ImageFileError, match=rf"{name}: .*{cause}"):
        read_mask(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "b.tif", "a.jpg", "b.jpg", "a.bmp"])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.7, 0.97, None])
def test_truncated_files_are_refused_wherever_they_end(tmp_path, name, fraction):
    options = {"b.tif": {"compression": "tiff_lzw"}, "b.jpg": {"progressive": True}}.get(name, {})
    path = _save(tmp_path, COLOUR, name, **options)
    data = path.read_bytes()
    path.write_bytes(data[:-3] if fraction is None else data[: int(len(data) * fraction)])
    with pytest.raises(ImageFileError, match=name):
        read_image(path)


def test_a_damaged_png_is_refused(tmp_path):
    path = _save(tmp_path, COLOUR)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageFileError, match=r"image\.png: the PNG is damaged"):
        read_image(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(ImageFileError, match=r"missing\.png: cannot be read"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageFileError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("shape", [(3, 20, 30), (2, 3, 20, 30)])
def test_a_tiff_stack_is_refused(tmp_path, shape):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros(shape, np.uint8), photometric="minisblack")
    with pytest.raises(ImageFileError, match=r"stack\.tif: (the TIFF )?holds a stack"):
        read_image(tmp_path / "stack.tif")


def test_masks_are_whatever_is_not_zero(tmp_path):
    expected = GREY > 100
    pixels = np.where(expected, 3, 0).astype(np.uint8)
    alpha = np.full_like(pixels, 255)
    zeros = np.zeros_like(pixels)
    assert (read_mask(_save(tmp_path, pixels)) == expected).all()
    assert (read_mask(_save(tmp_path, np.stack([zeros, pixels, zeros, alpha], axis=2))) == expected).all()
    tifffile.imwrite(tmp_path / "deep.tif", pixels.astype(np.uint16))
    assert (read_mask(tmp_path / "deep.tif") == expected).all()
    # tifffile writes truth values, and ImageJ binary images, as a TIFF in which 0 is white.
    tifffile.imwrite(tmp_path / "truth.tif", expected)
    for compression in ("raw", "tiff_deflate", "tiff_lzw"):
        path = _save(tmp_path, pixels, "binary.tif", compression=compression)
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags["PhotometricInterpretation"].overwrite(0)
        assert (read_mask(path) == expected).all()
    assert (read_mask(tmp_path / "truth.tif") == expected).all()


def test_listing_is_sorted_and_leaves_other_files_out(tmp_path):
    for name in ("b.PNG", "a.tiff", "c.txt", ".d.png"):
        (tmp_path / name).touch()
    (tmp_path / "e.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.tiff", "b.PNG"]


# --- label images ----------------------------------------------------------------------------------------------------

# The numbers of a label image, some of them apart, none above 15.
NUMBERS = (np.arange(11 * 13).reshape(11, 13) * 7 % 16).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "bits", "options"),
    [
        ("a.png", 8, {}),
        ("a.png", 4, {}),
        ("a.png", 8, {"transparency": 3}),
        ("a.tif", 8, {}),
        ("a.tif", 8, {"compression": "tiff_lzw"}),
        ("a.tif", 8, {"compression": "tiff_deflate"}),
    ],
)
def test_the_indices_of_a_palette_are_the_labels(tmp_path, name, bits, options):
    image = Image.new("P", NUMBERS.shape[::-1])
    image.putdata(NUMBERS.ravel().tolist())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 48).tolist())
    image.save(tmp_path / name, **options, **({"bits": bits} if name == "a.png" else {}))
    np.testing.assert_array_equal(read_labels(tmp_path / name), NUMBERS)


@pytest.mark.parametrize("bits", [1, 2])
def test_the_indices_of_a_small_palette_are_the_labels(tmp_path, bits):
    image = Image.new("P", NUMBERS.shape[::-1])
    image.putdata((NUMBERS % 2**bits).ravel().tolist())
    image.putpalette([9, 8, 7, 200, 100, 50, 1, 2, 3, 4, 5, 6][: 3 * 2**bits])
    image.save(tmp_path / "a.png", bits=bits)
    assert (tmp_path / "a.png").read_bytes()[24] == bits
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), NUMBERS % 2**bits)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_equal_channels_and_alpha_are_read_as_one(tmp_path, name, channels):
    colour = [NUMBERS] * (channels if channels == 3 else channels - 1)
    alpha = [] if channels == 3 else [255 - NUMBERS]
    path = _save(tmp_path, np.stack(colour + alpha, axis=2), name)
    np.testing.assert_array_equal(read_labels(path), NUMBERS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, np.int16])
def test_whole_numbers_may_be_stored_in_other_types(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", NUMBERS.astype(dtype))
    labels = read_labels(tmp_path / "a.tif")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, NUMBERS.astype(dtype))


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_labels_are_the_stored_numbers_where_a_tiffs_zero_is_white(tmp_path, options):
    path = _save(tmp_path, NUMBERS, "a.tif", **options)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags["PhotometricInterpretation"].valueoffset
    assert data[at : at + 2] == b"\x01\x00"
    data[at] = 0
    path.write_bytes(data)
    np.testing.assert_array_equal(read_labels(path), NUMBERS)


@pytest.mark.parametrize(
    ("pixels", "cause"),
    [
        (NUMBERS / np.float32(2), "which are no whole numbers"),
        (np.where(NUMBERS == 3, np.nan, NUMBERS).astype(np.float32), "which are no whole numbers"),
        (-NUMBERS.astype(np.float32), "of which some are negative"),
        (COLOUR, "whose channels differ"),
        (NUMBERS * np.float32(1e12), "a label is above 2147483647"),
    ],
)
def test_what_is_no_label_image_is_named(tmp_path, pixels, cause):
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(ImageFileError, match=rf"a\.tif: .*{cause}"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "options"), [("a.jpg", {}), ("a.png", {"format": "jpeg"}), ("a.tif", {"compression": "jpeg"})]
)
def test_labels_with_losses_are_refused(tmp_path, name, options):
    path = _save(tmp_path, NUMBERS, name, **options)
    with pytest.raises(ImageFileError, match=r"JPEG.*, (since its|whose) losses change"):
        read_labels(path)
    assert read_image(path).shape == (11, 13, 3)


# --- channels and compressions of TIFF -------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", ["ZYX", "TYX"])
def test_planes_that_are_no_channels_are_a_stack(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 8, 9), np.uint8), imagej=True, metadata={"axes": axes})
    with pytest.raises(ImageFileError, match=r"holds a stack"):
        read_image(tmp_path / "a.tif")


def test_lzma_is_read_and_a_compression_that_is_not_is_named(tmp_path, capfd):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[0].tags["Compression"].valueoffset
    data[at : at + 2] = (34887).to_bytes(2, "little")
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageFileError, match=r"a\.tif: the TIFF's compression LERC cannot be read here .*imagecodecs"):
        read_image(tmp_path / "a.tif")
    assert "OpenCV" not in capfd.readouterr().err
    tifffile.imwrite(tmp_path / "b.tif", GREY, compression="lzma")
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif")[..., 1], GREY)

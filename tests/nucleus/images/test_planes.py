"""Files of several channels, planes and frames: the chosen one is read, and nothing is guessed."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from nucleus.datasets.dataset import shipped_data
from nucleus.images.decoding import Planes
from nucleus.images.reading import (
    ImageFileError,
    read_image,
    read_labels,
    read_mask,
    read_raw,
    read_shape,
    to_rgb,
)

NAMES = ["GFP", "DAPI", "TRITC"]
FIELD = read_image(min(shipped_data().glob("stage1_train/*/images/*.png"), key=lambda path: path.stat().st_size))
# Three channels of 16 bit made of a shipped field, all different.
CHANNELS = np.stack([FIELD[::-1, :, 0], FIELD[..., 1], FIELD[:, ::-1, 2]]).astype(np.uint16) * 7 + 100


def write_channels(path, kind):
    options = {
        "ome": {"ome": True, "metadata": {"axes": "CYX", "Channel": {"Name": NAMES}}},
        "imagej": {"imagej": True, "metadata": {"axes": "CYX", "Labels": NAMES}},
        "shape": {"metadata": {"axes": "CYX"}},
    }[kind]
    tifffile.imwrite(path, CHANNELS, photometric="minisblack", **options)
    return path


def write_stack(path, **options):
    """Writes 2 frames x 4 planes x 3 channels as OME-TIFF and returns the array."""
    factors = np.arange(1, 9, dtype=np.uint16).reshape(2, 4, 1, 1, 1)
    stack = CHANNELS[None, None, :, :40, :50] * factors
    metadata = {"axes": "TZCYX", "Channel": {"Name": NAMES}}
    tifffile.imwrite(path, stack, photometric="minisblack", ome=True, metadata=metadata, **options)
    return stack


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_are_refused_without_a_choice_and_listed(tmp_path, kind):
    path = write_channels(tmp_path / "a.tif", kind)
    with pytest.raises(ImageFileError, match=r"a\.tif: .*3 channels .*1 GFP, 2 DAPI, 3 TRITC .*--channel=NAME or N"):
        read_image(path)


@pytest.mark.parametrize("kind", ["ome", "imagej"])
@pytest.mark.parametrize("channel", ["DAPI", "dapi", "2", "#2", 2, ["DAPI"]])
def test_a_channel_is_chosen_by_name_and_by_number(tmp_path, kind, channel):
    path = write_channels(tmp_path / "a.tif", kind)
    np.testing.assert_array_equal(read_image(path, channel=channel), to_rgb(CHANNELS[1]))


@pytest.mark.parametrize("kind", ["ome", "imagej", "shape"])
def test_three_channels_become_red_green_and_blue(tmp_path, kind):
    path = write_channels(tmp_path / "a.tif", kind)
    chosen = read_image(path, channel=(3, "1", 2))
    np.testing.assert_array_equal(chosen, to_rgb(np.moveaxis(CHANNELS[[2, 0, 1]], 0, -1)))


def test_a_single_channel_is_read_as_it_is(tmp_path):
    metadata = {"axes": "YX", "Channel": {"Name": ["GFP"]}}
    tifffile.imwrite(tmp_path / "a.tif", CHANNELS[0], ome=True, metadata=metadata)
    for choice in ({}, {"channel": "GFP"}, {"channel": 1, "plane": 1, "frame": 1}, {"project": "max"}):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", **choice), to_rgb(CHANNELS[0]))
    with pytest.raises(ImageFileError, match="no channel 'DAPI'; it has 1 GFP"):
        read_image(tmp_path / "a.tif", channel="DAPI")


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_red_green_and_blue_samples_are_colour_whatever_the_metadata(tmp_path, planar):
    pixels, axes = (FIELD, "YXS") if planar == "contig" else (np.moveaxis(FIELD, -1, 0), "CYX")
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, ome=True, photometric="rgb", planarconfig=planar, metadata={"axes": axes}
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), FIELD)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel="green"), to_rgb(FIELD[..., 1]))


def test_channels_that_are_called_by_colours_are_no_colour_image(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["red", "green", "blue"]}}
    tifffile.imwrite(tmp_path / "a.tif", CHANNELS, ome=True, photometric="minisblack", metadata=metadata)
    with pytest.raises(ImageFileError, match="3 channels that are no colours, 1 red, 2 green, 3 blue"):
        read_image(tmp_path / "a.tif")


def test_several_colour_images_are_refused(tmp_path):
    metadata = {"axes": "CYXS"}
    tifffile.imwrite(tmp_path / "a.tif", np.stack([FIELD, FIELD]), ome=True, photometric="rgb", metadata=metadata)
    for choice in ({}, {"channel": 1}):
        with pytest.raises(ImageFileError, match="the TIFF holds a stack"):
            read_image(tmp_path / "a.tif", **choice)


def test_a_stack_of_colour_images_is_read_by_its_planes(tmp_path):
    stack = np.stack([FIELD, FIELD[::-1], FIELD[:, ::-1]])
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, photometric="rgb", metadata={"axes": "ZYXS"})
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", plane=3), stack[2])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", project="max"), stack.max(axis=0))
    with pytest.raises(ImageFileError, match="3 planes"):
        read_image(tmp_path / "a.tif")


def test_two_samples_without_alpha_are_channels(tmp_path):
    pixels = np.moveaxis(CHANNELS[:2], 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageFileError, match="2 channels that are no colours"):
        read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel=2), to_rgb(CHANNELS[1]))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}])
def test_a_plane_of_a_stack_is_chosen(tmp_path, options):
    stack = write_stack(tmp_path / "a.ome.tif", **options)
    chosen = read_image(tmp_path / "a.ome.tif", channel="TRITC", plane=3, frame=2)
    np.testing.assert_array_equal(chosen, to_rgb(stack[1, 2, 2]))


@pytest.mark.parametrize("method", ["max", "mean"])
def test_a_stack_is_projected(tmp_path, method):
    stack = write_stack(tmp_path / "a.ome.tif")[0, :, 1]
    expected = stack.max(axis=0) if method == "max" else np.rint(stack.mean(axis=0)).astype(np.uint16)
    chosen = read_raw(tmp_path / "a.ome.tif", Planes("DAPI", project=method, frame=1)).visible()
    assert chosen.dtype == np.uint16
    np.testing.assert_array_equal(chosen, expected)


def test_a_stack_is_refused_with_its_sizes_and_the_options(tmp_path):
    write_stack(tmp_path / "a.ome.tif")
    with pytest.raises(ImageFileError) as refused:
        read_image(tmp_path / "a.ome.tif")
    for part in ("2 frames", "--frame=N", "4 planes", "--plane=N", "--project", "3 channels", "2 DAPI", "--channel"):
        assert part in str(refused.value)
    with pytest.raises(ImageFileError, match="4 planes") as refused:
        read_image(tmp_path / "a.ome.tif", channel="DAPI", frame=1)
    assert "frames" not in str(refused.value) and "channels" not in str(refused.value)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"channel": "Cy5"}, "no channel 'Cy5'; it has 1 GFP, 2 DAPI, 3 TRITC"),
        ({"channel": 4}, "no channel '4'"),
        ({"plane": 5}, "no plane 5; it has 4"),
        ({"frame": 3}, "no frame 3; it has 2"),
    ],
)
def test_what_is_not_in_the_file_is_named(tmp_path, choice, message):
    write_stack(tmp_path / "a.ome.tif")
    with pytest.raises(ImageFileError, match=message):
        read_image(tmp_path / "a.ome.tif", **{"channel": 1, "plane": 1, "frame": 1, **choice})


@pytest.mark.parametrize(
    "choice",
    [
        {"channel": 0},
        {"channel": True},
        {"channel": ("a", "b")},
        {"plane": 0},
        {"frame": 1.5},
        {"project": "sum"},
        {"plane": "every"},
        {"scene": 0},
        {"plane": 1, "project": "max"},
    ],
)
def test_a_malformed_choice_is_refused(choice):
    with pytest.raises(ValueError, match="received"):
        Planes(**choice)


def test_a_name_that_is_the_number_of_another_channel_is_refused(tmp_path):
    metadata = {"axes": "CYX", "Channel": {"Name": ["0", "1", "x"]}}
    tifffile.imwrite(tmp_path / "a.tif", CHANNELS, ome=True, photometric="minisblack", metadata=metadata)
    with pytest.raises(ImageFileError, match="channel '1' can be several of 1 0, 2 1, 3 x"):
        read_image(tmp_path / "a.tif", channel="1")
    for channel in ("#1", 1, "0"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel=channel), to_rgb(CHANNELS[0]))


def test_pages_without_a_meaning_are_planes_or_the_channel_that_is_chosen(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", CHANNELS, photometric="minisblack")
    with pytest.raises(ImageFileError, match="a stack: 3 planes"):
        read_image(tmp_path / "a.tif")
    for choice in ({"plane": 3}, {"channel": 3}):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", **choice), to_rgb(CHANNELS[2]))
    tifffile.imwrite(tmp_path / "b.tif", np.stack([CHANNELS, CHANNELS]), photometric="minisblack")
    with pytest.raises(ImageFileError, match=r"a stack \(axes QQYX"):
        read_image(tmp_path / "b.tif", plane=1)


def test_pages_that_only_libtiff_can_decompress_are_read(tmp_path):
    pages = [Image.fromarray(np.ascontiguousarray(page // 8).astype(np.uint8)) for page in CHANNELS]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    for plane in (3, 1):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", plane=plane)[..., 0], CHANNELS[plane - 1] // 8)


def test_a_stack_that_one_page_describes_is_read(tmp_path):
    stack = CHANNELS[:, :40, :50]
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        # The offset of the next page stands behind the twelve bytes of each tag.
        at = page.offset + 2 + 12 * len(page.tags)
        end = page.dataoffsets[0] + stack.nbytes
    data[at : at + 4] = bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    raw = read_raw(tmp_path / "a.tif", Planes(plane=2))
    assert raw.pixels.dtype == np.dtype(np.uint16) and raw.pixels.dtype.isnative
    np.testing.assert_array_equal(raw.visible(), stack[1])
    (tmp_path / "a.tif").write_bytes(data[: end - 100])
    with pytest.raises(ImageFileError, match="truncated or damaged"):
        read_image(tmp_path / "a.tif", plane=2)


def write_files(folder):
    """Writes the channels as an OME data set of two files, each of which describes both."""
    ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in range(2)]
    data = "".join(
        f'<TiffData FirstC="{number}" IFD="0" PlaneCount="1"><UUID FileName="{number}.ome.tif">{ids[number]}</UUID>'
        "</TiffData>"
        for number in range(2)
    )
    height, width = CHANNELS.shape[1:]
    for number in range(2):
        xml = (
            f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{ids[number]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
            f'SizeX="{width}" SizeY="{height}" SizeC="2" SizeZ="1" SizeT="1"><Channel ID="Channel:0:0" Name="GFP"/>'
            f'<Channel ID="Channel:0:1" Name="DAPI"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / f"{number}.ome.tif", CHANNELS[number], description=xml, metadata=None)


def test_a_data_set_in_several_files_is_read_once(tmp_path):
    write_files(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path / "0.ome.tif", channel="DAPI"), to_rgb(CHANNELS[1]))
    with pytest.raises(ImageFileError, match=r"1\.ome\.tif: belongs to a data set of several files: read 0\.ome\.tif"):
        read_image(tmp_path / "1.ome.tif", channel="DAPI")
    (tmp_path / "1.ome.tif").unlink()
    np.testing.assert_array_equal(read_image(tmp_path / "0.ome.tif", channel="GFP"), to_rgb(CHANNELS[0]))
    with pytest.raises(ImageFileError, match="in another file of this data set, which is not there"):
        read_image(tmp_path / "0.ome.tif", channel="DAPI")


def test_scenes_are_refused_without_a_choice_listed_and_chosen(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=True) as file:
        for number, channel in enumerate(CHANNELS):
            metadata = {
                "axes": "YX",
                "Name": f"well {number}",
                "PhysicalSizeX": number + 1,
                "PhysicalSizeY": number + 1,
            }
            file.write(channel[: 20 + 10 * number], metadata=metadata)
    with pytest.raises(ImageFileError, match=r"3 separate images, 1 well 0, 2 well 1, 3 well 2 .*--scene=NAME or N"):
        read_image(tmp_path / "a.tif")
    for scene in ("well 1", "WELL 1", 2, "2", "#2"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", scene=scene), to_rgb(CHANNELS[1][:30]))
    raw = read_raw(tmp_path / "a.tif", Planes(scene=3))
    assert raw.pixel_size == 3 and read_shape(tmp_path / "a.tif", Planes(scene=3)) == raw.pixels.shape[:2]
    with pytest.raises(ImageFileError, match="no scene 'well 7'"):
        read_image(tmp_path / "a.tif", scene="well 7")
    Image.fromarray(FIELD).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png", scene=1), FIELD)
    with pytest.raises(ImageFileError, match="no scene '2'"):
        read_image(tmp_path / "b.png", scene=2)


def test_separate_images_without_names_are_counted(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for channel in CHANNELS[:2]:
            file.write(channel[: 20 + len(channel) // 2], metadata=None, photometric="minisblack")
        file.write(CHANNELS[2][:9], metadata=None, photometric="minisblack")
    raw = read_raw(tmp_path / "a.tif", Planes(plane=1))
    np.testing.assert_array_equal(raw.visible(), CHANNELS[0][: 20 + CHANNELS.shape[1] // 2])
    assert "a.tif: holds 2 separate images; the first of them" in caplog.text


def test_three_stains_as_samples_of_a_grey_tiff_are_no_colour(tmp_path):
    pixels = np.moveaxis(CHANNELS, 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageFileError, match="3 channels that are no colours"):
        read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", channel=3), to_rgb(CHANNELS[2]))


@pytest.mark.parametrize("axes", ["CTZYX", "ZCTYX", "TCZYX", "ZTCYX"])
def test_axes_in_any_order_are_read(tmp_path, axes):
    stack = np.moveaxis(write_stack(tmp_path / "a.ome.tif"), [0, 1, 2], [axes.index(axis) for axis in "TZC"])
    metadata = {"axes": axes, "Channel": {"Name": NAMES}}
    tifffile.imwrite(tmp_path / "b.ome.tif", stack, photometric="minisblack", ome=True, metadata=metadata)
    choice = {"channel": "DAPI", "plane": 4, "frame": 2}
    np.testing.assert_array_equal(
        read_image(tmp_path / "b.ome.tif", **choice), read_image(tmp_path / "a.ome.tif", **choice)
    )


def test_all_planes_and_frames_are_read_in_order(tmp_path):
    stack = write_stack(tmp_path / "a.ome.tif")
    every = read_image(tmp_path / "a.ome.tif", channel="GFP", plane="all", frame="all")
    assert every.shape == (8, 40, 50, 3)
    np.testing.assert_array_equal(every[6], to_rgb(stack[1, 2, 0]))
    frames = read_image(tmp_path / "a.ome.tif", channel="GFP", project="max", frame="all")
    np.testing.assert_array_equal(frames[1], to_rgb(stack[1, :, 0].max(axis=0)))
    with pytest.raises(ImageFileError, match="2 frames"):
        read_image(tmp_path / "a.ome.tif", channel="GFP", plane="all")


def test_a_truncated_stack_is_refused(tmp_path):
    write_stack(tmp_path / "a.ome.tif")
    data = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageFileError, match="is truncated"):
        read_image(tmp_path / "a.ome.tif")


def test_raw_samples_are_those_of_every_channel(tmp_path):
    raw = read_raw(write_channels(tmp_path / "a.tif", "ome"), Planes("DAPI"))
    assert raw.channels == tuple(NAMES) and raw.shown == (1,) and raw.pixels.dtype == np.uint16
    np.testing.assert_array_equal(np.moveaxis(raw.pixels, -1, 0), CHANNELS)
    np.testing.assert_array_equal(raw.visible(), CHANNELS[1])


def test_masks_and_labels_in_equal_channels_need_no_choice(tmp_path):
    mask = (FIELD[..., 0] > 40).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.stack([mask] * 3), imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), mask > 0)

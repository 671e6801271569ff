"""Tables of nuclei agree with scikit-image, in the units of the file."""

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy.spatial.distance import cdist
from skimage.measure import regionprops_table

import nucleus
from nucleus import cli
from nucleus.images.decoding import Planes, RawImage
from nucleus.measurement import measure, summarise

STATISTICS = {"mean": "intensity_mean", "min": "intensity_min", "max": "intensity_max", "std": "intensity_std"}


@pytest.fixture(scope="module")
def field():
    """A shipped image of fluorescence, grey, and its label image."""
    dataset = nucleus.NucleusDataset()
    dataset.load_nucleus(nucleus.shipped_data(), "train")
    dataset.prepare()
    grey = [i for i in dataset.image_ids if np.ptp(dataset.load_image(i), axis=2).max() == 0]
    return dataset.load_image(grey[0])[..., 0], dataset.load_labels(grey[0])[0]


def assert_statistics(table, name, labels, pixels):
    # scikit-image adds up float32 in float32.
    exact = pixels.astype(np.float64)
    expected = regionprops_table(labels, exact, properties=("area", *STATISTICS.values()))
    for statistic, key in STATISTICS.items():
        np.testing.assert_allclose(table[f"{statistic}_{name}"], expected[key], rtol=1e-9, err_msg=statistic)
    np.testing.assert_allclose(table[f"sum_{name}"], expected["intensity_mean"] * expected["area"], rtol=1e-9)


def test_shapes_are_those_of_scikit_image(field):
    image, labels = field
    table = measure(labels, image)
    properties = {
        "label": "label",
        "area": "area",
        "equivalent_diameter": "equivalent_diameter_area",
        "perimeter": "perimeter",
        "major_axis": "axis_major_length",
        "minor_axis": "axis_minor_length",
        "orientation": "orientation",
        "eccentricity": "eccentricity",
        "solidity": "solidity",
        "feret_diameter": "feret_diameter_max",
    }
    expected = regionprops_table(labels, properties=(*properties.values(), "centroid", "bbox"))
    for column, key in properties.items():
        np.testing.assert_allclose(table[column], expected[key], err_msg=column)
    circularity = np.minimum(4 * np.pi * expected["area"] / expected["perimeter"] ** 2, 1)
    np.testing.assert_allclose(table["circularity"], circularity)
    centroids = np.stack([expected["centroid-0"], expected["centroid-1"]], axis=1)
    distances = cdist(centroids, centroids)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(table["nearest_distance"], distances.min(axis=0))
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    assert table["touches_edge"].tolist() == np.isin(table["label"], edge).astype(int).tolist()
    assert 0 < table["touches_edge"].sum() < len(table)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
def test_intensities_are_those_of_the_file(field, dtype):
    image, labels = field
    pixels = image.astype(dtype) if dtype == np.uint8 else (image * 37.5 - 12).astype(dtype)
    table = measure(labels * 3, pixels)
    assert table["label"].tolist() == list(range(3, 3 * labels.max() + 1, 3))
    assert_statistics(table, "intensity", labels, pixels)


def test_colour_is_measured_by_luminance_and_by_channel(field):
    image, labels = field
    colour = np.stack([image, image[::-1], image[:, ::-1]], axis=2)
    table = measure(labels, colour)
    assert_statistics(table, "intensity", labels, cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    for channel, name in enumerate(("red", "green", "blue")):
        assert_statistics(table, name, labels, colour[..., channel])
    deep = measure(labels, colour.astype(np.uint16) * 100)
    np.testing.assert_allclose(deep["mean_intensity"], 100 * table["mean_intensity"], rtol=0.02)
    grey = measure(labels, np.repeat(image[..., None], 3, axis=2))
    assert not any(name.endswith("_red") for name in grey)


def test_every_channel_has_columns_under_a_name_of_its_own(field):
    image, labels = field
    pixels = np.stack([image, image[::-1], image[:, ::-1], image // 2, image], axis=2).astype(np.uint16)
    table = measure(labels, RawImage(pixels, ("DAPI", "GFP", " GFP", "", "intensity"), (1,)))
    names = ("DAPI", "GFP", "GFP-2", "channel4", "intensity-2")
    for channel, name in enumerate(names):
        assert_statistics(table, name, labels, pixels[..., channel])
    assert_statistics(table, "intensity", labels, pixels[..., 1])


def test_a_single_nucleus_and_none():
    labels = np.zeros((6, 7), np.int32)
    none = measure(labels, np.zeros((6, 7)))
    labels[2, 3] = 1
    one = measure(labels, np.full((6, 7), 5.5))
    assert len(none) == 0 and none.columns.tolist() == one.columns.tolist()
    assert np.isnan(one["nearest_distance"][0])
    assert one["circularity"][0] == 1 and one["sum_intensity"][0] == 5.5


def test_high_labels_take_no_memory_and_keep_their_numbers(field):
    image, labels = field
    high = np.where(labels > 0, labels.astype(np.int64) * 100_000_000, 0)
    table, expected = measure(high, image), measure(labels, image)
    assert table["label"].tolist() == (expected["label"].to_numpy() * 100_000_000).tolist()
    pd.testing.assert_frame_equal(table.drop(columns="label"), expected.drop(columns="label"))


def test_what_does_not_fit_is_refused():
    for labels in (np.zeros((4, 4)), np.full((4, 4), -1), np.zeros((4, 4, 1), int)):
        with pytest.raises(ValueError, match="whole numbers from 0 on"):
            measure(labels)
    with pytest.raises(ValueError, match=r"differ in shape\. Received: \(4, 5\) and \(4, 4\)"):
        measure(np.zeros((4, 4), int), np.zeros((4, 5)))
    with pytest.raises(ValueError, match=r"or \[H, W, 3\] RGB, or a RawImage\. Received: shape \(4, 4, 2\)"):
        measure(np.zeros((4, 4), int), np.zeros((4, 4, 2)))


def test_summary_of_an_image(field):
    image, labels = field
    table = measure(labels, image)
    row = summarise(table, labels.shape)
    assert row["nuclei_per_megapixel"] == pytest.approx(len(table) * 1e6 / labels.size)
    quartiles = np.percentile(regionprops_table(labels, properties=("area",))["area"], [25, 50, 75])
    np.testing.assert_allclose([row["area_q1"], row["area_median"], row["area_q3"]], quartiles)
    assert row["intensity_median"] == pytest.approx(np.median(table["mean_intensity"]))
    assert np.isnan(summarise(table[:0], labels.shape)["area_median"])


def test_detect_measures_raw_intensities_of_all_channels(tmp_path, field):
    image, _ = field
    deep = image.astype(np.uint16) * 64 + 500
    tifffile.imwrite(tmp_path / "bright.tif", deep)
    tifffile.imwrite(tmp_path / "dim.tif", deep // 4)
    metadata = {"axes": "CYX", "Channel": {"Name": ["GFP", "DAPI"]}}
    tifffile.imwrite(
        tmp_path / "both.tif", np.stack([deep[::-1], deep]), ome=True, photometric="minisblack", metadata=metadata
    )

    def detect(name, *options):
        output = tmp_path / "out" / name
        assert cli.main(["detect", str(tmp_path / f"{name}.tif"), "--preset=otsu", f"--output={output}", *options]) == 0
        labels = cv2.imread(str(output / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED).astype(np.int32)
        return pd.read_csv(output / "nuclei.csv"), labels, pd.read_csv(output / "images.csv")

    bright, labels, images = detect("bright")
    dim, same, _ = detect("dim")
    np.testing.assert_array_equal(labels, same)
    expected = regionprops_table(labels, deep, properties=("intensity_mean",))["intensity_mean"]
    np.testing.assert_allclose(bright["mean_intensity"], expected, atol=1e-4)
    np.testing.assert_allclose(dim["mean_intensity"], expected / 4, atol=1e-4)
    assert images["intensity_median"][0] == pytest.approx(bright["mean_intensity"].median(), abs=1e-4)
    both, labels, _ = detect("both", "--channel=DAPI")
    np.testing.assert_allclose(both["mean_DAPI"], both["mean_intensity"])
    expected = regionprops_table(labels, deep[::-1], properties=("intensity_mean",))["intensity_mean"]
    np.testing.assert_allclose(both["mean_GFP"], expected, atol=1e-4)


def test_micrometres_are_those_of_scikit_image(field):
    image, labels = field
    table = measure(labels, image, pixel_size=0.325)
    properties = {
        "area_um2": "area",
        "equivalent_diameter_um": "equivalent_diameter_area",
        "perimeter_um": "perimeter",
        "major_axis_um": "axis_major_length",
        "minor_axis_um": "axis_minor_length",
        "feret_diameter_um": "feret_diameter_max",
        "centroid_y_um": "centroid-0",
        "centroid_x_um": "centroid-1",
    }
    wanted = tuple(dict.fromkeys(name.partition("-")[0] for name in properties.values()))
    expected = regionprops_table(labels, properties=wanted, spacing=(0.325, 0.325))
    for column, key in properties.items():
        np.testing.assert_allclose(table[column], expected[key], rtol=1e-6, err_msg=column)
    np.testing.assert_allclose(table["nearest_distance_um"], 0.325 * table["nearest_distance"])
    row = summarise(table, labels.shape, 0.325)
    assert row["pixel_size_um"] == 0.325
    assert row["nuclei_per_mm2"] == pytest.approx(len(table) / (labels.size * 0.325**2 * 1e-6))
    assert row["area_um2_median"] == pytest.approx(np.median(table["area_um2"]))


def test_tables_are_in_micrometres_where_the_pixel_size_is_known(tmp_path, field):
    image, _ = field
    tifffile.imwrite(tmp_path / "known.tif", image, ome=True, metadata={"PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65})
    tifffile.imwrite(tmp_path / "not.tif", image)
    files = [str(tmp_path / "known.tif"), str(tmp_path / "not.tif")]

    def detect(name, *arguments):
        output = tmp_path / name
        assert cli.main(["detect", *arguments, "--preset=otsu", f"--output={output}"]) == 0
        return pd.read_csv(output / "nuclei.csv"), pd.read_csv(output / "images.csv").set_index("ImageId")

    nuclei, images = detect("both", *files)
    known = nuclei["ImageId"] == "known"
    np.testing.assert_allclose(nuclei["area_um2"][known], nuclei["area"][known] * 0.65**2, atol=1e-4)
    assert nuclei["area_um2"][~known].isna().all() and not nuclei["area_um2"][known].isna().any()
    assert images["pixel_size_um"]["known"] == 0.65 and np.isnan(images["pixel_size_um"]["not"])
    assert images["nuclei_per_mm2"]["known"] > 0 and np.isnan(images["nuclei_per_mm2"]["not"])
    nuclei, images = detect("neither", files[1])
    assert not any("um" in name.split("_") or "um2" in name for name in nuclei)
    assert "nuclei_per_mm2" not in images and np.isnan(images["pixel_size_um"]["not"])
    nuclei, images = detect("told", *files, "--pixel-size=0.10833")
    np.testing.assert_allclose(nuclei["area_um2"], nuclei["area"] * 0.10833**2, atol=1e-4)
    assert images["pixel_size_um"].tolist() == [0.10833] * 2


def test_raw_pixels_follow_the_size_of_the_data_set(tmp_path, field):
    image, _ = field
    tifffile.imwrite(tmp_path / "a.tif", image.astype(np.uint16) * 50)
    dataset = nucleus.NucleusDataset(fit=64, planes=Planes())
    dataset.load_images(tmp_path / "a.tif")
    dataset.prepare()
    raw = dataset.load_raw(0)
    assert raw.pixels.shape[:2] == dataset.load_image(0).shape[:2] and raw.pixels.max() > 255

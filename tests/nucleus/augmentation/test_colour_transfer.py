"""Colours of one section on another, as the paper's equations have it."""

import numpy as np
import pytest

from nucleus.augmentation.colour_transfer import ColourStatistics, transfer_colour
from nucleus.datasets.dataset import NucleusDataset, shipped_data


@pytest.fixture(scope="module")
def sections():
    """The shipped images of purple stain on white."""
    dataset = NucleusDataset()
    dataset.load_nucleus(shipped_data(), "all")
    return [dataset.load_image(i) for i, info in enumerate(dataset.image_info) if info["modality"] == "h&e-white"]


def reinhard(image, reference):
    """Section 2 and 3 of the paper, pixel by pixel in float64."""
    to_lms = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])

    def to_lab(rgb):
        l, m, s = np.log10(to_lms @ (rgb.astype(np.float64) + 1))  # noqa: E741
        return np.array([(l + m + s) / 3**0.5, (l + m - 2 * s) / 6**0.5, (l - m) / 2**0.5])

    def to_rgb(lab):
        a, b, c = lab[0] / 3**0.5, lab[1] / 6**0.5, lab[2] / 2**0.5
        return np.linalg.inv(to_lms) @ 10 ** np.array([a + b + c, a + b - c, a - 2 * b]) - 1

    source = np.array([to_lab(pixel) for pixel in image.reshape(-1, 3)])
    target = np.array([to_lab(pixel) for pixel in reference.reshape(-1, 3)])
    moved = (source - source.mean(axis=0)) * target.std(axis=0) / source.std(axis=0) + target.mean(axis=0)
    return np.array([to_rgb(lab) for lab in moved]).reshape(image.shape)


def test_colours_are_those_of_the_equations(sections):
    image, reference = sections[0][:40, :40], sections[1][:36, :44]
    expected = np.clip(reinhard(image, reference), 0, 255)
    assert np.abs(transfer_colour(image, reference) - expected).max() <= 1


def test_an_image_takes_on_the_statistics_of_the_reference_and_keeps_its_structure(sections):
    image, reference = sections[0], sections[1]
    moved = transfer_colour(image, reference)
    wanted, got, before = (ColourStatistics.of(each) for each in (reference, moved, image))
    assert np.abs(before.mean - wanted.mean).max() > 0.02
    np.testing.assert_allclose(got.mean, wanted.mean, atol=0.01)
    assert np.corrcoef(moved.mean(axis=2).ravel(), image.mean(axis=2).ravel())[0, 1] > 0.95


def test_its_own_colours_leave_an_image_alone(sections):
    assert np.abs(transfer_colour(sections[0], sections[0]).astype(int) - sections[0]).max() <= 1


def test_what_has_no_variation_is_shifted(sections):
    flat = np.full((8, 8, 3), (200, 150, 190), np.uint8)
    moved = transfer_colour(flat, sections[0])
    assert (moved == moved[0, 0]).all() and (moved != flat).any()


def test_colours_of_another_hue_or_contrast_are_not_near(sections):
    image = sections[0]
    own = ColourStatistics.of(image)
    assert own.is_near(own)
    assert own.is_near(ColourStatistics.of((image * 0.9).astype(np.uint8)))
    for far in (image[..., ::-1], 128 + image // 8, image // 4):
        assert not own.is_near(ColourStatistics.of(np.ascontiguousarray(far)))


def test_other_arrays_are_refused():
    with pytest.raises(ValueError, match=r"expects uint8 \[H, W, 3\]; received float64"):
        transfer_colour(np.zeros((4, 4, 3)), np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"expects uint8 \[H, W, 3\]; received uint8 \(4, 4\)"):
        transfer_colour(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))

"""The sizes of nuclei that a training writes into the recipe."""

import numpy as np
import pytest

from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.registry import NETWORKS, make_config
from nucleus.training.diameters import known_diameters


@pytest.fixture
def squares(add_sample, tmp_path):
    """A data set of an image each with squares of 4, 6, 8 and 10 pixels a side, and one without nuclei."""
    for side in (4, 6, 8, 10):
        mask = np.zeros((24, 32), bool)
        mask[5 : 5 + side, 5 : 5 + side] = True
        add_sample(f"side{side}", [mask], (24, 32))
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path, "stage1_train")
    dataset.prepare()
    return dataset


def test_they_are_those_of_the_training_images(squares):
    config = make_config("training", "efficientnet-lite0", {}, "unet")
    least, typical, largest = known_diameters(squares, NETWORKS["unet"], config)
    side_to_diameter = 2 / np.sqrt(np.pi)
    assert typical == pytest.approx(7 * side_to_diameter, abs=0.1)
    assert 4 * side_to_diameter < least < 6 * side_to_diameter < 8 * side_to_diameter < largest < 10 * side_to_diameter


def test_networks_that_bring_images_to_one_size_have_none(squares):
    resizing = make_config("training", "small", {"IMAGE_RESIZE_MODE": "square"}, "mask_rcnn")
    assert known_diameters(squares, NETWORKS["mask_rcnn"], resizing) == ()
    assert known_diameters(squares, NETWORKS["mask_rcnn"], make_config("training", "small")) != ()

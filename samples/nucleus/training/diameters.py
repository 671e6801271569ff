"""Sizes of nuclei that a training shows to a network, from which it later knows images of another magnification."""

from __future__ import annotations

import math

import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.network import NetworkModel
from nucleus.models.scale import median_diameter
from nucleus.models.settings import ApplicationSettings

# Images measured, evenly spaced over the data set: more would not change quantiles by much.
_MOST_IMAGES = 200
# Quantiles of the images' diameters: the least and the largest that a network has seen often enough to know.
_QUANTILES = (0.05, 0.5, 0.95)


def known_diameters(
    train: NucleusDataset, network: type[NetworkModel], config: ApplicationSettings
) -> tuple[float, ...]:
    """Returns the diameters of nuclei that a network knows after training, as the setting KNOWN_DIAMETERS.

    The diameter of an image is `nucleus.models.scale.median_diameter`. Windows that are magnified at random make a
    network surer at the ends of the range, and do not widen it: of nucleus_light, trained at half to twice the images'
    size, mAP falls where nuclei are smaller or larger than those of its training images at their own size.

    Args:
        train: Prepared training set with masks.
        network: Kind of network.
        config: Training configuration.

    Returns:
        (least, typical, largest) in pixels: the 5 %, 50 % and 95 % quantiles of the images' diameters;
        empty if the data set has no nuclei, or if the network brings every image to one size, so that it never sees an
        image's own.
    """
    if not network.keeps_scale(config):
        return ()
    measured = train.image_ids[:: math.ceil(max(len(train.image_ids), 1) / _MOST_IMAGES)]
    diameters = [median_diameter(train.load_labels(index)[0]) for index in measured]
    diameters = [diameter for diameter in diameters if diameter > 0]
    if not diameters:
        return ()
    return tuple(round(float(diameter), 1) for diameter in np.quantile(diameters, _QUANTILES))

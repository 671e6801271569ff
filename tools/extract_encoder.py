"""Writes the encoder of a trained U-Net as a file that trainings begin with, like the one from ImageNet.

A Mask R-CNN on the same encoder then begins with features that know nuclei already:

    python tools/extract_encoder.py weights/nucleus_light.h5 encoder.h5
    nucleus train --model=mask_rcnn --preset=efficientnet-lite0 --weights=encoder.h5
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras

from trainkit.efficientnet_lite import efficientnet_lite0_features
from trainkit.hdf5 import load_weights, save_weights


def extract_encoder(weights: Path, output: Path) -> None:
    """Copies the weights of EfficientNet-Lite0 out of those of a network that contains it, in half precision.

    Args:
        weights: Weights file (`.h5`) of a U-Net with the encoder `efficientnet-lite0`.
        output: File to write, in the layout of `weights/efficientnet_lite0_imagenet.h5`.

    Raises:
        WeightsFileError: The file cannot be read or lacks a layer of the encoder.
    """
    image = keras.Input((None, None, 3))
    encoder = keras.Model(image, list(efficientnet_lite0_features(image).values()))
    load_weights(encoder, weights, by_name=False)
    save_weights(encoder, output, dtype="float16", compress=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="weights of a U-Net with the encoder efficientnet-lite0")
    parser.add_argument("output", type=Path, help="file to write")
    arguments = parser.parse_args()
    extract_encoder(arguments.weights, arguments.output)


if __name__ == "__main__":
    main()

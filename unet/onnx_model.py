"""`OnnxUNet`: prediction with an exported U-Net, without Keras."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from trainkit.onnx_files import OnnxFileError, OnnxNetwork
from unet.config import UNetConfig
from unet.inference import predict_channels

# Settings that an exported file has fixed. Another value would not change what is computed.
NETWORK_SETTINGS = (
    "ENCODER",
    "ENCODER_FILTERS",
    "DECODER",
    "DECODER_FILTERS",
    "LOGITS_SIZE",
    "IMAGE_SKIP_FILTERS",
    "ACTIVATION",
    "PADDING",
    "BATCH_NORM",
    "SE_RATIO",
    "IMAGE_CHANNEL_COUNT",
    "TARGETS",
    "PRECISION",
)


class OnnxUNet:
    """U-Net in an ONNX file, which predicts as `unet.model.UNet` does: same padding, same batches.

    Args:
        path: File that `unet.exporting.export_onnx` wrote.
        config: Configuration of the network in it.

    Attributes:
        fingerprint: Fingerprint of the weights; see `trainkit.onnx_files.OnnxSession`.

    Raises:
        OnnxFileError: The file cannot be read or run, or has other channels than the configuration.
    """

    def __init__(self, path: str | os.PathLike, config: UNetConfig):
        self.config = config
        self._network = OnnxNetwork(path)
        self.fingerprint = self._network.fingerprint
        expected = (config.IMAGE_CHANNEL_COUNT, len(config.channels))
        if self._network.channels != expected:
            raise OnnxFileError(
                f"{path}: no network of its settings: expected {expected} channels of input and output. "
                f"Received: {self._network.channels}"
            )

    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Predicts the channels of images; see `unet.model.UNet.predict`."""
        return predict_channels(self._network, images, self.config)

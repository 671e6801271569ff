"""Weights trained on ImageNet, without their classifier: those that keras.applications publishes, and one shipped."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from trainkit.download import download

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
# Network -> (folder, MD5) of its file, from the source of keras.applications. The single list of networks with weights.
_PUBLISHED = {
    "resnet50": ("resnet", "4d473c1dd8becc155b73f8504c6f6626"),
    "resnet101": ("resnet", "88cf7a10940856eca736dc7b7e228a21"),
    "resnet152": ("resnet", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "vgg16": ("vgg16", "6d6bbae143d832006294945121d1f1fc"),
    "xception": ("xception", "b0042744bf5b25fce3cb969f33bebb97"),
}
# Network -> its file among the shipped weights.
SHIPPED = {"efficientnet-lite0": "efficientnet_lite0_imagenet.h5"}
IMAGENET_NETWORKS = (*_PUBLISHED, *SHIPPED)
_CHECKOUT = Path(__file__).resolve().parents[1] / "weights"


def default_weights_dir() -> Path:
    """Returns the folder of downloads: `weights/` of the checkout, or the user's cache for an installed package."""
    if _CHECKOUT.is_dir():
        return _CHECKOUT
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "keras-nucleus" / "weights"


def download_imagenet(network: str, weights_dir: str | os.PathLike | None = None) -> Path:
    """Returns the file of a network's ImageNet weights without its classifier, downloaded if missing.

    Args:
        network: Name of the network, one of `IMAGENET_NETWORKS`. Weights of "efficientnet-lite0" are shipped, not
            downloaded.
        weights_dir: Folder of downloads; by default `default_weights_dir()`.

    Raises:
        ValueError: There are no public weights for this network.
        DownloadError: The file could not be fetched; the message names its address and where to put it.
    """
    if network in SHIPPED:
        folder = _CHECKOUT if _CHECKOUT.is_dir() else Path(str(resources.files("nucleus_weights")))
        return folder / SHIPPED[network]
    if network not in _PUBLISHED:
        raise ValueError(f"ImageNet weights exist for {list(IMAGENET_NETWORKS)}. Received: {network!r}")
    folder, md5 = _PUBLISHED[network]
    name = f"{network}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path = Path(weights_dir or default_weights_dir()) / name
    return download(f"{_URL}{folder}/{name}", path, md5=md5, what=f"ImageNet weights of {network}")

"""Finding and outlining nuclei in microscopy images.

The names below are what most users need: `from nucleus import load_model, make_config, predict, read_image`. They are
imported when first used, since Keras takes seconds to load.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "NucleusConfig": "config",
    "NucleusInferenceConfig": "config",
    "make_config": "config",
    "EnsemblePredictor": "ensemble",
    "NucleusDataset": "dataset",
    "VAL_IMAGE_IDS": "dataset",
    "shipped_data": "dataset",
    "evaluate": "evaluation",
    "load_model": "inference",
    "predict": "inference",
    "read_ensemble": "ensemble",
    "read_image": "images",
    "rle_encode": "labels",
    "rle_decode": "labels",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

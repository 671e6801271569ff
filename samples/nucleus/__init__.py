"""Finding and outlining nuclei in microscopy images.

The names below are what most users need: `from nucleus import load_model, read_image`. Each is imported when it is
first used (PEP 562), from the module named here and nowhere else: any import of a part of the package, such as that of
the command line for `nucleus --help`, runs this file first, and all names together would add more than a second to it.
"""

from __future__ import annotations

import importlib
from typing import Any

# Name -> the module that defines it.
_HOMES = {
    "NucleusConfig": "models.mask_rcnn",
    "NucleusInferenceConfig": "models.mask_rcnn",
    "make_config": "models.registry",
    "EnsembleModel": "ensemble.ensemble_model",
    "FusionModel": "ensemble.fusion.model",
    "NucleusDataset": "datasets.dataset",
    "VAL_IMAGE_IDS": "datasets.dataset",
    "shipped_data": "datasets.dataset",
    "evaluate": "evaluation.evaluation",
    "export": "exporting.export",
    "finetune": "training.finetuning",
    "measure": "measurement",
    "load_model": "models.loading",
    "NucleusModel": "models.base",
    "History": "models.base",
    "Prediction": "models.base",
    "predict": "models.base",
    "predict_large": "models.large",
    "predict_lazy": "models.lazy_prediction",
    "open_lazy": "images.lazy",
    "detect_images": "prediction.detection",
    "read_ensemble": "ensemble.fitted",
    "read_fusion": "ensemble.fusion.fused",
    "read_image": "images.reading",
    "read_raw": "images.reading",
    "rle_encode": "images.labels",
    "rle_decode": "images.labels",
    "train": "training.train",
}
__all__ = list(_HOMES)
# Not at once: reading it takes longer than all else that happens before Ctrl-C is answered.
_HOMES["__version__"] = "version"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

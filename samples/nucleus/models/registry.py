"""The models that the commands know: their presets, their checkpoints, and what training can begin from.

Nothing here imports Keras: most commands only list what there is.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import mrcnn.config
import nucleus.models.classical.presets
import unet.presets
import unet.runs
from nucleus.models import presets
from trainkit.runs import RunFiles


class Preset(Protocol):
    """Named settings; see `nucleus.models.presets.Preset` and `unet.presets.Preset`."""

    summary: str


@dataclass(frozen=True)
class ModelKind:
    """What there is to know of a model before it is built.

    Attributes:
        summary: One line for the command line's help.
        presets: Its presets by name.
        default_preset: The one that is taken unless another is asked for.
        run_files: The names of its checkpoints; None for a model without weights.
        pretrained: What training can begin from, besides a file and random weights.
        adapter_module: Module with what is done otherwise for another model: `build`, and of a model that learns
            `FROM_SCRATCH`, `start`, `train` and `scored`, alike in all.
    """

    summary: str
    presets: Mapping[str, Preset]
    default_preset: str
    run_files: RunFiles | None
    pretrained: tuple[str, ...]
    adapter_module: str

    @property
    def learns(self) -> bool:
        """Whether the model has weights, which are trained; with them it needs Keras."""
        return self.run_files is not None

    def adapter(self) -> ModuleType:
        """Imports the module that builds and trains the model, and with a model that learns Keras."""
        return importlib.import_module(self.adapter_module)


MODELS: dict[str, ModelKind] = {
    "mask_rcnn": ModelKind(
        "Mask R-CNN: a box for every nucleus, then its mask",
        presets.PRESETS,
        "lineage",
        mrcnn.config.RUN_FILES,
        ("coco", "imagenet"),
        "nucleus.models.mask_rcnn",
    ),
    "unet": ModelKind(
        "U-Nets and FCN-8s: nuclei and borders pixel by pixel, then the watershed",
        unet.presets.PRESETS,
        "xception-inceptionse",
        unet.runs.RUN_FILES,
        ("imagenet",),
        "nucleus.models.unet",
    ),
    "classical": ModelKind(
        "thresholds, watershed and active contours: a baseline without weights",
        nucleus.models.classical.presets.PRESETS,
        "watershed",
        None,
        (),
        "nucleus.models.classical.adapter",
    ),
}
LEARNING_MODELS = tuple(name for name, kind in MODELS.items() if kind.learns)
DEFAULT_MODEL = "mask_rcnn"


def last_checkpoint(model_dir: Path, name: str, models: Iterable[str] = LEARNING_MODELS) -> Path:
    """Returns the last checkpoint of the latest run, whichever of some models it trains.

    Args:
        model_dir: Folder of the runs.
        name: The configuration's NAME.
        models: Names in `LEARNING_MODELS`.

    Raises:
        FileNotFoundError: There is none.
    """
    found, missing = [], []
    for model in models:
        try:
            found.append(MODELS[model].run_files.last_checkpoint(model_dir, name))
        except FileNotFoundError as error:
            missing.append(str(error))
    if not found:
        raise FileNotFoundError("; ".join(missing))
    return max(found, key=lambda path: path.parent.name)

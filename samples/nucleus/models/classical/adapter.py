"""What the application does with classical methods that it does otherwise with another model; see `nucleus.models.registry`."""

from __future__ import annotations

import os

from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.predictor import ClassicalPredictor


def build(config: ClassicalConfig, model_dir: str | os.PathLike) -> ClassicalPredictor:
    """Builds what detects; it needs no folder."""
    return ClassicalPredictor(config)

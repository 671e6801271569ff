"""Task of StarDist for `peers.py`; needs stardist and TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from csbdeep.utils import normalize
from peer_loop import Task, serve
from stardist.models import StarDist2D


def predict(job: dict[str, Any]) -> Task:
    """Returns the prediction of all images at their own sizes, in grey, as its published model wants them."""
    weights = job["stardist_weights"]
    folder = Path(weights)
    if folder.is_dir():
        model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
    else:
        model = StarDist2D.from_pretrained(weights)
    with np.load(job["originals"]) as arrays:
        images = [arrays[name].mean(axis=-1) for name in arrays.files]

    def run() -> int:
        return sum(int(model.predict_instances(normalize(image, 1, 99.8))[0].max()) for image in images)

    return run


if __name__ == "__main__":
    serve({"default": predict}, ("stardist", "tensorflow", "numpy"))

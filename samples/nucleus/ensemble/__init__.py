"""The ensemble of several models: predicts the IoU of each one's masks with the truth, and keeps the best.

After "Nuclei segmentation using computer vision", Vuola, 2019, section 4.3.

    files = {"unet": "unet.h5", "mask_rcnn": "mask_rcnn.h5"}
    model = EnsembleModel({name: load_model(file) for name, file in files.items()}, files=files)
    fitted = model.fit(dataset)       # images with masks that no member was trained on
    model.save("ensemble.json")
    labels, scores = load_model("ensemble.json").predict(image)[0]
"""

from nucleus.ensemble.combined import EnsembleModel
from nucleus.ensemble.examples import make_examples
from nucleus.ensemble.fitting import FitSettings, fit
from nucleus.ensemble.model import Ensemble, Rules, read_ensemble
from nucleus.ensemble.report import report
from nucleus.ensemble.running import run_ensemble, write_out_of_fold

__all__ = [
    "Ensemble",
    "EnsembleModel",
    "FitSettings",
    "Rules",
    "fit",
    "make_examples",
    "read_ensemble",
    "report",
    "run_ensemble",
    "write_out_of_fold",
]

"""The ensemble of several models: predicts the IoU of each one's masks with the truth, and keeps the best.

After "Nuclei segmentation using computer vision", Vuola, 2019, section 4.3.

    examples = make_examples(dataset, {"unet": source, "mask_rcnn": source})   # nuclei known, members out of fold
    fitted = fit(examples, folds.ids)
    print(report(examples, fitted))
    fitted.ensemble.save("ensemble.json")
    predictor = EnsemblePredictor(read_ensemble("ensemble.json"), {"unet": unet, "mask_rcnn": mask_rcnn})
    labels, scores = predict(predictor, image)
"""

from nucleus.ensemble.examples import make_examples
from nucleus.ensemble.fitting import FitSettings, fit
from nucleus.ensemble.model import Ensemble, EnsemblePredictor, Rules, read_ensemble
from nucleus.ensemble.report import report
from nucleus.ensemble.running import run_ensemble, write_out_of_fold

__all__ = [
    "Ensemble",
    "EnsemblePredictor",
    "FitSettings",
    "Rules",
    "fit",
    "make_examples",
    "read_ensemble",
    "report",
    "run_ensemble",
    "write_out_of_fold",
]

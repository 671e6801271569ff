"""Scores of a segmentation against its ground truth, one concept a module; `nucleus.evaluation.metrics` is the way in."""

"""Scores of a segmentation against its ground truth, one concept a module; `nucleus.metrics` is the way in."""

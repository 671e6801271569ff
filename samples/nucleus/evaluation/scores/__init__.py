"""Scores of a segmentation against its ground truth, one concept per module; import `nucleus.evaluation.metrics`."""

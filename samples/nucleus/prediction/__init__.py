"""Prediction: a model over many images, and the folder of results."""

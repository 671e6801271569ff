"""Trained weights that come with the project, installed as the package `nucleus_weights`. Downloads land here too."""

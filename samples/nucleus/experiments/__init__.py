"""Experiments: publications, comparison of models, and search for settings."""

"""Measurements: label images and the raw pixels of their files become tables."""

from nucleus.measurement.nuclei import measure, summarise

__all__ = ["measure", "summarise"]

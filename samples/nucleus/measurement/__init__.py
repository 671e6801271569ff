"""Measurements: label images and the raw pixels of their files become tables."""

from nucleus.measurement.nuclei import measure
from nucleus.measurement.summary import summarise

__all__ = ["measure", "summarise"]

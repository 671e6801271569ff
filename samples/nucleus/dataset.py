"""Data sets for training and detection: the earlier name of `nucleus.datasets.dataset`."""

from nucleus.datasets.dataset import *  # noqa: F403
from nucleus.datasets.dataset import __all__ as __all__

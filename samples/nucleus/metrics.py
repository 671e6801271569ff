"""Every score as a function of two label images: the earlier name of `nucleus.evaluation.scores`."""

from nucleus.evaluation.scores import *  # noqa: F403
from nucleus.evaluation.scores import __all__ as __all__

"""Compares models out of fold: every image is predicted by models that were trained on the other folds.

members = (Member("classical", "classical", "active-contours"), Member("unet", "unet", "small", epochs=20))
table = compare(ComparisonPlan(members, folds), load, "results/comparison")
"""

from nucleus.experiments.comparison.members import DEFAULT_MEMBERS, Member, quick_member
from nucleus.experiments.comparison.plan import ComparisonPlan
from nucleus.experiments.comparison.runner import compare

__all__ = ["DEFAULT_MEMBERS", "ComparisonPlan", "Member", "compare", "quick_member"]

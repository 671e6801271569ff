"""Comparison of models on a data set: the division of its images, and the tiny version that checks everything runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from nucleus.datasets.dataset import shipped_data
from nucleus.datasets.division import POOL, choose_folds
from nucleus.datasets.source import ImageSource
from nucleus.evaluation.scores import DETECTION_IOU
from nucleus.experiments.comparison.members import Member, quick_member
from nucleus.experiments.comparison.plan import ComparisonPlan
from nucleus.experiments.comparison.runner import compare
from nucleus.experiments.publications.images import spread
from nucleus.experiments.tiny import uncompiled

# Number of shipped images of the tiny version, of as many modalities as possible, and of its folds.
QUICK_IMAGES, QUICK_FOLDS = 3, 2


def compare_on(
    source: ImageSource,
    members: Sequence[Member],
    output: str | Path,
    *,
    subset: str = POOL,
    folds: int | Path | None = None,
    views: str = "flips-rotations",
    seed: int = 0,
    iou: float = DETECTION_IOU,
    quick: bool = False,
) -> str:
    """Divides the images of a data set into folds, and compares models on them; see `compare`.

    Args:
        source: The data set; unused if `quick`.
        members: The models.
        output: Folder of the results; an interrupted comparison in it is resumed.
        subset: Images to divide.
        folds: Number of folds, or a `folds.json`; by default four, and two if `quick`.
        views: Test-time augmentation, a name in `nucleus.models.views.SYMMETRIES`.
        seed: Seed of the folds and of the ensemble.
        iou: IoU above which a nucleus counts as found, 0.5 to 1.
        quick: True to compare tiny versions of the models, trained for a few steps on three shipped images: it checks
            within two minutes that everything runs, and its scores are meaningless.

    Returns:
        The tables as text.

    Raises:
        ValueError: Images, settings or weights cannot be used, or the folder holds a comparison with other ones.
        DownloadError: Published weights could not be fetched.
    """
    only = None
    if quick:
        source, folds = ImageSource(shipped_data()), folds or QUICK_FOLDS
        only = {info["id"] for info in spread(source.load(subset).image_info, QUICK_IMAGES)}
        members = [quick_member(member) for member in members]
    plan = ComparisonPlan(
        members=members,
        folds=choose_folds(source, subset, folds, seed, only),
        views=views,
        seed=seed,
        iou=iou,
        about={"dataset": str(source.path), "subset": subset, "quick": quick, **source.planes.described()},
    )
    count = sum(map(len, plan.folds.ids))
    print(f"Comparing on {source.describe(subset, count)} in {len(plan.folds.ids)} folds")
    with uncompiled() if quick else nullcontext():
        return compare(plan, partial(source.load, subset), output)

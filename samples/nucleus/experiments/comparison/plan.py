"""Plan of a comparison, and its checks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nucleus.datasets.division import require_unseen
from nucleus.datasets.folds import Folds, find_folds
from nucleus.ensemble.boosting import import_lightgbm
from nucleus.evaluation.scores import DETECTION_IOU
from nucleus.experiments.comparison.members import Member
from nucleus.models.views import make_views
from nucleus.models.weights import find_recipe
from nucleus.prediction.predictions import require_distinct_names

ENSEMBLE, REPORT_FOLDER = "ensemble", "report"
# Views of a prediction without test-time augmentation.
PLAIN = "none"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ComparisonPlan:
    """Models, folds and options of a comparison.

    Attributes:
        members: The models; two or more that learn are also combined into an ensemble.
        folds: Division of the images; images in none of the folds are left out.
        views: Test-time augmentation, a name in `nucleus.models.views.SYMMETRIES`; "none" switches it off.
        seed: Seed of the ensemble's trees; that of the trainings is their setting SEED.
        iou: IoU above which a nucleus counts as found, for precision, recall and F1; 0.5 to 1.
        about: Further facts to record, such as the data set, as JSON-compatible values.
    """

    members: Sequence[Member]
    folds: Folds
    views: str = "flips-rotations"
    seed: int = 0
    iou: float = DETECTION_IOU
    about: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Checks the plan, so that errors show before long work.

        Raises:
            ValueError: A member or the folds cannot be used, or LightGBM is missing.
        """
        make_views(self.views)
        if not self.members:
            raise ValueError("There is no member to compare.")
        for member in self.members:
            member.check()
        require_distinct_names([member.name.lower() for member in self.members])
        if any(member.name.lower() in (ENSEMBLE, REPORT_FOLDER) for member in self.members):
            raise ValueError(
                f"A member cannot be called {ENSEMBLE} or {REPORT_FOLDER}: these folders have another use."
            )
        if len(self.folds.ids) < 2 or not all(self.folds.ids):
            raise ValueError("A comparison needs two or more folds with images in each.")
        for member in self.members:
            _refuse_learned(member, {name for fold in self.folds.ids for name in fold})
        if self.combined:
            import_lightgbm()

    @property
    def combined(self) -> tuple[Member, ...]:
        """The members of the ensemble; empty if fewer than two learn."""
        learning = tuple(member for member in self.members if member.learns)
        return learning if len(learning) > 1 else ()


def _refuse_learned(member: Member, ids: set[str]) -> None:
    """Refuses initial weights that were trained on images of the folds."""
    if member.file is None:
        return
    require_unseen(member.file, ids, f"Begin the member {member.name} with others", "the images that are scored")
    if find_folds(member.file) is None and find_recipe(member.file) is not None:
        _log.warning("%s: whether it was trained on images that are scored is not known", member.file)

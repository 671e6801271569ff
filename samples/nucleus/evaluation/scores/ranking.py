"""Rank-sum table of the GlaS challenge, with own results among the published ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from nucleus.evaluation.scores.glas import Glas

# Columns of the table: (score, test part).
COLUMNS = [("F1", "A"), ("F1", "B"), ("Dice", "A"), ("Dice", "B"), ("Hausdorff", "A"), ("Hausdorff", "B")]

# Lehmann, Agarwal and Lund, "Semantic segmentation of cells from clinical images using deep learning", 2020, figure 5:
# the entries of the challenge, and their own two models (DTU). Values in the order of COLUMNS. Ranks follow from these
# rounded values; the printed ones differ in one place, where Freiburg2 is fifth by Dice on part B after ExB1's equal
# 0.786, and its sum therefore 33 instead of 32.
PUBLISHED = {
    "DTU-MASKRCNN": (0.922, 0.906, 0.905, 0.872, 37.529, 74.287),
    "CUMedVision2": (0.912, 0.716, 0.897, 0.781, 45.418, 160.347),
    "ExB1": (0.891, 0.703, 0.882, 0.786, 57.413, 145.575),
    "ExB3": (0.896, 0.719, 0.886, 0.765, 57.350, 159.873),
    "Freiburg2": (0.870, 0.695, 0.876, 0.786, 57.093, 148.463),
    "CUMedVision1": (0.868, 0.769, 0.867, 0.800, 74.596, 153.646),
    "DTU-UNET": (0.822, 0.862, 0.723, 0.791, 126.685, 138.294),
    "ExB2": (0.892, 0.686, 0.884, 0.754, 54.785, 187.442),
    "Freiburg1": (0.834, 0.605, 0.875, 0.783, 57.194, 146.607),
    "LIB": (0.777, 0.306, 0.781, 0.617, 112.706, 190.447),
    "CVML": (0.652, 0.541, 0.644, 0.654, 155.433, 176.244),
    "vision4GlaS": (0.635, 0.527, 0.737, 0.610, 107.491, 210.105),
}


def rank_sum_table(own: Mapping[str, tuple[Glas, Glas]], without: Collection[str] = ()) -> pd.DataFrame:
    """Ranks methods on both test parts of the GlaS challenge, together with the published ones.

    Each of the six scores ranks the methods, with standard competition ranking for ties, as in the challenge. The table
    is in ascending order of the sum of the six ranks.

    Args:
        own: Method name -> (`Glas` of test part A, `Glas` of test part B).
        without: Published methods that are left out, such as the one that an own method repeats: beside it, it would be
            its rival.

    Returns:
        Index: method. Columns, in two levels: F1, Dice and Hausdorff (pixels) with the scores of A and B and their
        ranks ("rank A", "rank B"), then ("rank sum", "").

    Raises:
        ValueError: A method has the name of a published one, or one to be left out is not published.
    """
    unknown = sorted(set(without) - PUBLISHED.keys())
    if unknown:
        raise ValueError(f"There are no published methods of these names: {', '.join(unknown)}")
    rows = {name: scores for name, scores in PUBLISHED.items() if name not in without}
    taken = sorted(rows.keys() & own.keys())
    if taken:
        raise ValueError(f"There are published methods of these names: {', '.join(taken)}")
    for name, (a, b) in own.items():
        rows[name] = (a.f1, b.f1, a.dice, b.dice, a.hausdorff, b.hausdorff)
    scores = pd.DataFrame.from_dict(rows, orient="index", columns=pd.MultiIndex.from_tuples(COLUMNS))
    table = pd.DataFrame(index=scores.index)
    ranks = {}
    for score, part in COLUMNS:
        values = scores[score, part]
        ranks[score, part] = values.rank(method="min", ascending=score == "Hausdorff").astype(int)
        table[score, part] = values
        table[score, f"rank {part}"] = ranks[score, part]
    table["rank sum", ""] = sum(ranks.values())
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table.sort_values(("rank sum", ""), kind="stable")

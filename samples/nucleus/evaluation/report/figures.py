"""Plots of the scores of all models, as PNG files in memory.

The figures follow those of "Nuclei segmentation using computer vision", Vuola, 2019, with a colour-blind safe palette
(Okabe and Ito, Color universal design, 2008) and a marker for each model.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nucleus.evaluation.evaluation import Evaluation
from nucleus.evaluation.scores import PROPERTIES, THRESHOLDS, iou_histogram, recall_by

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222", "#8C564B")
RECALL_BINS, IOU_BINS = 6, 20
_MARKERS, _LINES = "osD^vPX*", ("-", "--", ":", "-.")
_TITLES = {"area": "Area (pixels)", "eccentricity": "Eccentricity", "cluster_size": "Nuclei in the cluster"}
# An en dash.
_TO = "\u2013"
_DPI = 160
_LONGEST_NAME = 40
# Largest number of models whose histograms are filled; those of more are lines.
_MOST_FILLED = 3
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
}


def colour(model: int) -> str:
    """Returns the colour, `#rrggbb`, of the model with this index."""
    return COLOURS[model % len(COLOURS)]


def ap_curve(evaluations: Sequence[Evaluation]) -> bytes:
    """Draws average precision against the IoU threshold over all images: figure 5.2 of the thesis.

    Args:
        evaluations: Evaluation of each model.

    Returns:
        The PNG file.
    """
    with matplotlib.rc_context(_STYLE):
        figure, (axes,) = _axes(1, width=6.4, height=3.9)
        _draw_ap(axes, evaluations, "all")
        axes.set_title("")
        return _png(figure, evaluations)


def ap_curves_by_modality(evaluations: Sequence[Evaluation]) -> bytes:
    """Draws average precision against the IoU threshold for each modality.

    Args:
        evaluations: Evaluation of each model on images of several modalities.

    Returns:
        The PNG file.
    """
    groups = [name for name in evaluations[0].summary.index if name != "all"]
    with matplotlib.rc_context(_STYLE):
        figure, panels = _axes(len(groups), width=10.4, height=2.9)
        for axes, group in zip(panels, groups, strict=True):
            _draw_ap(axes, evaluations, group)
        return _png(figure, evaluations)


def recall_groups(evaluation: Evaluation, column: str) -> pd.DataFrame:
    """Computes the plotted recall of a model by one property of the nuclei, in groups of equal size.

    Args:
        evaluation: Scores of the model.
        column: Column of `evaluation.nuclei` with the property.
    """
    return recall_by(evaluation.nuclei, column, RECALL_BINS, evaluation.threshold)


def sensitivity(evaluations: Sequence[Evaluation]) -> bytes:
    """Draws recall against area, eccentricity and cluster size in equal-count bins: figure 5.4 of the thesis.

    Args:
        evaluations: Evaluation of each model on images with at least one true nucleus.

    Returns:
        The PNG file.
    """
    with matplotlib.rc_context(_STYLE):
        figure, panels = _axes(len(PROPERTIES), width=10.4, height=3.5)
        for axes, column in zip(panels, PROPERTIES, strict=True):
            for index, evaluation in enumerate(evaluations):
                groups = recall_groups(evaluation, column)
                axes.plot(np.arange(len(groups)), groups["recall"], **_look(index))
            axes.set_xticks(
                np.arange(len(groups)), range_labels(groups), rotation=30, ha="right", rotation_mode="anchor"
            )
            axes.set_xlim(-0.4, len(groups) - 0.6)
            axes.set_ylim(0, 1.02)
            axes.set_xlabel(_TITLES[column])
        panels[0].set_ylabel(f"Recall at IoU {evaluations[0].threshold:g}")
        return _png(figure, evaluations)


def range_labels(groups: pd.DataFrame) -> list[str]:
    """Formats the lowest and highest value of each group of `recall_by`."""
    texts = []
    for low, high in zip(groups["low"], groups["high"], strict=True):
        if float(low).is_integer() and float(high).is_integer():
            texts.append(f"{low:.0f}" if low == high else f"{low:.0f}{_TO}{high:.0f}")
        else:
            texts.append(f"{low:.2f}{_TO}{high:.2f}")
    return texts


def iou_histograms(evaluations: Sequence[Evaluation]) -> bytes:
    """Draws the distribution of the true nuclei's IoU, overall and by modality: figure 5.5b of the thesis.

    Args:
        evaluations: Evaluation of each model on images with at least one true nucleus.

    Returns:
        The PNG file.
    """
    groups = [name for name, true in evaluations[0].summary["true"].items() if true]
    with matplotlib.rc_context(_STYLE):
        figure, panels = _axes(len(groups), width=10.4, height=2.9)
        for axes, group in zip(panels, groups, strict=True):
            for index, evaluation in enumerate(evaluations):
                nuclei = evaluation.nuclei
                rows = nuclei if group == "all" else nuclei[nuclei["modality"] == group]
                histogram = iou_histogram(rows, IOU_BINS)
                edges = [*histogram["low"], histogram["high"].iloc[-1]]
                if len(evaluations) <= _MOST_FILLED:
                    axes.stairs(histogram["density"], edges, fill=True, color=colour(index), alpha=0.12)
                axes.stairs(histogram["density"], edges, color=colour(index), linewidth=1.6, linestyle=_line(index))
            axes.set_xlim(0, 1)
            axes.set_xlabel("IoU")
            _title(axes, f"{group} ({len(rows)} nuclei)")
        panels[0].set_ylabel("Density")
        return _png(figure, evaluations)


def _draw_ap(axes: Axes, evaluations: Sequence[Evaluation], group: str) -> None:
    columns = [f"AP{100 * threshold:.0f}" for threshold in THRESHOLDS]
    for index, evaluation in enumerate(evaluations):
        axes.plot(THRESHOLDS, evaluation.summary.loc[group, columns].astype(float), **_look(index))
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0.48, 0.97)
    axes.set_xlabel("IoU threshold")
    axes.set_ylabel("Average precision")
    _title(axes, group)


def _look(index: int) -> dict[str, str]:
    return {"color": colour(index), "marker": _MARKERS[index % len(_MARKERS)], "linestyle": _line(index)}


def _line(index: int) -> str:
    """Returns the line style of a model, which changes when the colours repeat."""
    return _LINES[index // len(COLOURS) % len(_LINES)]


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text).set_parse_math(False)


def _axes(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Returns a figure and its panels, up to four in a row; width of the figure, height of a row in inches."""
    columns = count if count <= 4 else 3
    rows = -(-count // columns)
    figure = Figure(figsize=(width, 0.4 + rows * height), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.09)
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.ravel())
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


def _png(figure: Figure, evaluations: Sequence[Evaluation]) -> bytes:
    """Adds a legend of several models, and returns the PNG file."""
    if len(evaluations) > 1:
        handles = [figure.axes[0].plot([], [], **_look(index))[0] for index in range(len(evaluations))]
        places = [str(index) for index in range(len(evaluations))]
        columns = min(len(evaluations), 4)
        legend = figure.legend(handles, places, loc="outside upper center", ncols=columns)
        # Set afterwards, since matplotlib omits labels that start with "_" and reads "$" as mathematics.
        for text, evaluation in zip(legend.get_texts(), evaluations, strict=True):
            text.set_parse_math(False)
            text.set_text(_short(evaluation.name))
    file = io.BytesIO()
    FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # Characters missing in the font become boxes in the plot; the page's tables show them.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _short(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= _LONGEST_NAME else f"{line[: _LONGEST_NAME - 1]}…"

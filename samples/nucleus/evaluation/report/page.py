"""Rendering of the report's page: scores, plots and pictures in the template `page.html`."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from nucleus.evaluation.evaluation import Evaluation
from nucleus.evaluation.report import figures
from nucleus.evaluation.report.gallery import Exhibit, encode
from nucleus.evaluation.report.measures import FURTHER, MAIN, Measure
from nucleus.evaluation.report.ranking import rank_sum_rows, rank_sums
from nucleus.evaluation.report.tables import Cell, available, count_of, tabulate
from nucleus.evaluation.scores import PROPERTIES, THRESHOLDS


def render(
    evaluations: Sequence[Evaluation],
    sources: Sequence[str],
    description: str,
    plots: Mapping[str, bytes],
    exhibits: Sequence[Exhibit],
) -> str:
    """Renders the page as HTML; names and all other external text are escaped.

    Args:
        evaluations: Evaluation of each model.
        sources: Source of each model's predictions; "" if unknown.
        description: Description of the images.
        plots: PNG files by the name of the plot.
        exhibits: Images of the gallery.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nucleus.evaluation.report", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(colour=figures.colour, count_of=count_of, data_uri=data_uri, encode=encode)
    first = evaluations[0]
    overall = first.summary.loc["all"]
    main, further = available(evaluations, MAIN), available(evaluations, FURTHER)
    ranks = rank_sums(evaluations)
    curve = [Measure(f"AP{100 * threshold:.0f}", "more", 3, "") for threshold in THRESHOLDS]
    return environment.get_template("page.html").render(
        names=[evaluation.name for evaluation in evaluations],
        sources=sources,
        description=description,
        threshold=f"{first.threshold:g}",
        images=int(overall["images"]),
        nuclei=int(overall["true"]),
        modalities=[group for group in tabulate(evaluations, []) if group.name != "all"],
        tables=[_table("scores", main, evaluations), _table("further scores", further, evaluations)],
        rank_columns=[] if ranks is None else [" ".join(filter(None, column)) for column in ranks.columns],
        ranked=[] if ranks is None else rank_sum_rows(ranks, evaluations),
        curve=_table("average precision", curve, evaluations),
        definitions=[(measure, measure.defined(first.threshold)) for measure in (*main, *further)],
        plots={name: data_uri(data, "image/png") for name, data in plots.items()},
        recalls=[_recall_table(column, evaluations) for column in PROPERTIES] if overall["true"] else [],
        recall_bins=figures.RECALL_BINS,
        iou_bins=figures.IOU_BINS,
        exhibits=exhibits,
    )


def data_uri(data: bytes, kind: str) -> str:
    """Returns the data URI of a file.

    Args:
        data: Content of the file.
        kind: MIME type, such as "image/png".
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _table(name: str, measures: Sequence[Measure], evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    return {"name": name, "measures": measures, "groups": tabulate(evaluations, measures)}


def _recall_table(column: str, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Returns the table of the recall plot: ranges and sizes of the groups, and a row of cells for each model."""
    groups = [figures.recall_groups(evaluation, column) for evaluation in evaluations]
    return {
        "property": column.replace("_", " "),
        "ranges": figures.range_labels(groups[0]),
        "nuclei": groups[0]["nuclei"].tolist(),
        "rows": [[Cell(f"{value:.3f}", False) for value in group["recall"]] for group in groups],
    }

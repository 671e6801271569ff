"""A page that shows how well models find nuclei, side by side: tables, plots and pictures."""

from nucleus.evaluation.report.writing import write_report

__all__ = ["write_report"]

"""Evaluation: scores and the report."""

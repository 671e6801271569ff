"""Experiments: publications, comparisons and search."""

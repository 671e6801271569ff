"""Precision and compilation, which are the same for every model here."""

from trainkit.compiled import compile_inference, precision_scope

__all__ = ["compile_inference", "precision_scope"]

"""The examples in docstrings give the results that they show."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "module", ["anchors", "backbones", "boxes", "evaluation", "masks", "resizing", "utils", "weights"]
)
def test_examples_in_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(f"mrcnn.{module}"))
    assert result.attempted > 0
    assert result.failed == 0

"""Runs the examples in the documentation of modules that need no Keras."""

import doctest
import importlib

import pytest

MODULES = ("files", "hdf5_layout", "label_images", "runs", "search", "settings", "stages")


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_show(module):
    result = doctest.testmod(importlib.import_module(f"trainkit.{module}"), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed

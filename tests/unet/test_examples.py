"""Runs the examples in the documentation of modules that need no Keras."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["unet.config", "unet.postprocess", "unet.resize", "unet.targets"])
def test_examples_give_what_they_show(module):
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed

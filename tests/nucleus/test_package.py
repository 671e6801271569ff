"""What the package offers at its top."""

import subprocess
import sys

import pytest

import nucleus


def test_every_offered_name_is_there():
    for name in nucleus.__all__:
        assert getattr(nucleus, name) is not None
        assert name in dir(nucleus)
    absent = "nothing"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(nucleus, absent)


def test_importing_the_package_does_not_load_keras():
    code = "import nucleus, nucleus.dataset, sys; assert 'keras' not in sys.modules and 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

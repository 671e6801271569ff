"""Names that the package offers at its top."""

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
    names = "nucleus.dataset.NucleusDataset, nucleus.evaluation.evaluate_fully, nucleus.evaluate, nucleus.metrics.score"
    code = f"import nucleus, nucleus.dataset, nucleus.evaluation, nucleus.metrics, sys; {names}; "
    code += "assert not {'keras', 'tensorflow', 'jax', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commands_import_keras_without_matplotlib_which_can_be_imported_later(tmp_path):
    (tmp_path / "keras.py").write_text("try:\n    import matplotlib\nexcept ImportError:\n    matplotlib = None\n")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from nucleus.quiet import import_keras; "
    code += "import_keras(plots=False); import keras; assert keras.matplotlib is None; import matplotlib"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_what_else_an_import_prints_is_not_lost(tmp_path):
    broken = "import sys; print('something is wrong', file=sys.stderr); raise ImportError('x')"
    (tmp_path / "keras.py").write_text(broken)
    code = "import sys; from nucleus.quiet import import_keras; sys.path.insert(0, sys.argv[1]); import_keras()"
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("something is wrong\nTraceback")

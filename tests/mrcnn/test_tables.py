"""Protects the tables: text in a terminal, HTML in a notebook, suspicious weights marked in both."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from mrcnn import tables


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(tables, "_notebook_display", lambda: None)


@pytest.fixture
def notebook(monkeypatch):
    """Collects what a notebook would be given to display."""
    shown = []
    monkeypatch.setattr(
        tables, "_notebook_display", lambda: SimpleNamespace(display=shown.append, HTML=lambda text: text)
    )
    return shown


def test_a_terminal_gets_aligned_text(terminal, capsys):
    tables.display_table([["NAME", "N"], ["<b>long &lt;name&gt;</b>", 12], ["x"]])
    assert capsys.readouterr().out == "NAME         N\nlong <name>  12\nx\n"


def test_a_notebook_gets_html(notebook):
    tables.display_table([["a", "<b>1</b>"], ["c", 2]])
    assert notebook == ["<table><tr><td>a</td><td><b>1</b></td></tr><tr><td>c</td><td>2</td></tr></table>"]


def test_outside_a_notebook_nothing_is_displayed_as_html(capsys):
    tables.display_table([["a"]])
    assert capsys.readouterr().out == "a\n"


def test_a_notebook_is_recognised_by_the_kernel_of_its_shell(monkeypatch):
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    kernels = pytest.importorskip("ipykernel.zmqshell").ZMQInteractiveShell
    for running, expected in ((None, False), (shell, False), (kernels, True)):
        monkeypatch.setattr("IPython.get_ipython", lambda running=running: running and running.__new__(running))
        assert (tables._notebook_display() is not None) == expected


def test_weight_stats_show_every_layer_and_mark_suspects(terminal, capsys):
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="inside")], name="nested")
    outer = keras.Sequential(
        [
            keras.Input((4,)),
            inner,
            keras.layers.ReLU(),
            keras.layers.Dense(2, name="dead"),
            keras.layers.Dense(1, name="large"),
        ]
    )
    inner.get_layer("inside").set_weights([np.arange(12.0).reshape(4, 3), np.zeros(3)])
    outer.get_layer("dead").set_weights([np.zeros((3, 2)), np.zeros(2)])
    outer.get_layer("large").set_weights([np.array([[-2000.0], [1.0]]), np.ones(1)])
    for model in (outer, SimpleNamespace(keras_model=outer)):
        tables.display_weight_stats(model)
        rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert list(rows) == ["WEIGHT", *(f"{n}/{w}" for n in ("inside", "dead", "large") for w in ("kernel", "bias"))]
        assert rows["inside/kernel"].split()[1:] == ["(4,", "3)", "+0.0000", "+11.0000", "+3.4521"]
        assert [name for name, row in rows.items() if "dead?" in row] == ["dead/kernel"]
        assert [name for name, row in rows.items() if "Overflow?" in row] == ["large/kernel"]

"""Tables for notebooks and terminals, among them one of a model's weights."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

# Beyond this size a weight has most likely diverged.
_OVERFLOW = 1000


def display_table(table: Iterable[Iterable[Any]]) -> None:
    """Displays a table: as HTML in a notebook, as aligned text on standard output elsewhere.

    Args:
        table: Rows of values. HTML tags in values are left out of the text.
    """
    rows = [[str(value) for value in row] for row in table]
    notebook = _notebook_display()
    if notebook is None:
        print(_as_text(rows))
        return
    cells = ("".join(f"<td>{value}</td>" for value in row) for row in rows)
    notebook.display(notebook.HTML(f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"))


def display_weight_stats(model: Any) -> None:
    """Displays shape, minimum, maximum and standard deviation of every weight, and marks suspicious ones.

    A weight whose values are all equal is marked as dead, unless it is a bias, whose initial values are equal; one with
    values beyond 1000 is marked as overflowing.

    Args:
        model: A Keras model, or an object with one as `keras_model`: a `MaskRCNN` or a `UNet`.
    """
    import keras

    rows = [["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]]
    for layer in layers_with_weights(model if isinstance(model, keras.Model) else model.keras_model):
        for variable, values in zip(layer.weights, layer.get_weights(), strict=True):
            alert = ""
            if values.size > 1 and values.min() == values.max() and variable.name != "bias":
                alert += " <span style='color:red'>*** dead?</span>"
            if np.abs(values).max() > _OVERFLOW:
                alert += " <span style='color:red'>*** Overflow?</span>"
            rows.append(
                [
                    html.escape(f"{layer.name}/{variable.name}") + alert,
                    str(values.shape),
                    f"{values.min():+9.4f}",
                    f"{values.max():+10.4f}",
                    f"{values.std():+9.4f}",
                ]
            )
    display_table(rows)


def layers_with_weights(model: Any) -> Iterator[Any]:
    """Yields the layers that own weights, those of nested models included.

    Args:
        model: Keras model.
    """
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from layers_with_weights(layer)
        elif layer.weights:
            yield layer


def _notebook_display() -> Any | None:
    """Returns the module `IPython.display` inside a notebook's kernel, None elsewhere."""
    try:
        from IPython import display, get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    # A notebook's shell has the trait `kernel`, a terminal's has not.
    return display if shell is not None and shell.has_trait("kernel") else None


def _as_text(rows: list[list[str]]) -> str:
    """Formats rows as left-aligned columns, two spaces apart."""
    plain = [[html.unescape(re.sub(r"<[^>]+>", "", value)) for value in row] for row in rows]
    columns = max(map(len, plain), default=0)
    widths = [max(len(row[i]) for row in plain if i < len(row)) for i in range(columns)]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=False)).rstrip() for row in plain
    )

"""Import of Keras without the native log lines of TensorFlow, which has no option to suppress them."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from nucleus.interrupts import ending_at_once

# TensorFlow's native log lines, and its remark about those before its log is set up.
_NATIVE_LOG = re.compile(rb"[IWE]\d{4} \d\d:\d\d:\d\d\.|[IWE]0000 00:00:|WARNING: All log messages before absl")


class KerasNotFoundError(ValueError):
    """Keras or its backend is not installed."""


def import_keras(plots: bool = True) -> None:
    """Imports Keras and its backend; of what that prints, native log lines are dropped, the rest comes after it.

    Args:
        plots: False to spare the import of matplotlib, a tenth of the time; `keras.visualization`, which no command
            uses, then draws nothing in this process.

    Raises:
        KerasNotFoundError: Keras or its backend is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules:
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as caught:
        stderr = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            with ending_at_once(), nullcontext() if plots else _not_installed("matplotlib"):
                import keras  # noqa: F401
        except ModuleNotFoundError as error:
            raise KerasNotFoundError(
                f"{error.name} is not installed, which models in Keras need: pip install keras-nucleus. Without it, "
                "name an exported model (--weights=MODEL.onnx; nucleus export writes it) or a classical one "
                "(--model=classical)."
            ) from error
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if not _NATIVE_LOG.match(line):
                    os.write(2, line)


@contextmanager
def _not_installed(package: str) -> Iterator[None]:
    """Lets imports of an optional package fail inside the block, as if it were missing; afterwards they work."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None
    try:
        yield
    finally:
        del sys.modules[package]

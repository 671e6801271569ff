"""Networks in ONNX files: run by ONNX Runtime, with notes in the file's metadata. Needs no Keras."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainkit.files import atomic_path
from trainkit.reading import reading

SUFFIX = ".onnx"
_WHAT = "no ONNX file that ONNX Runtime can run"


class OnnxFileError(ValueError):
    """An ONNX file cannot be read or run, or a package to do so is missing."""


def require_packages(packages: Collection[str], extra: str, purpose: str) -> None:
    """Checks, before long work, that packages of an extra are installed.

    Args:
        packages: Names of modules.
        extra: Extra in setup.py that installs them.
        purpose: Subject of the message, such as "ONNX files".

    Raises:
        OnnxFileError: A package is missing; the message names the extra.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise OnnxFileError(f'{purpose}: not installed: {", ".join(missing)}. pip install "keras-nucleus[{extra}]"')


class OnnxNetwork:
    """Network of one input and one output, computed by ONNX Runtime on the CPU.

    Call it with float32 `[B, H, W, C]` to get its output as float32.

    Args:
        path: ONNX file.

    Attributes:
        channels: Channels of (input, output).

    Raises:
        OnnxFileError: ONNX Runtime is not installed, or the file is missing, damaged, or another kind of network: its
            only input and output must be float32 of four dimensions, the last of which is fixed.
    """

    def __init__(self, path: str | os.PathLike):
        self._session = _open(path, optimised=True)
        with reading(path, "no network from images to images", OnnxFileError):
            tensors = (*self._session.get_inputs(), *self._session.get_outputs())
            found = [(tensor.type, tensor.shape) for tensor in tensors]
            if len(found) != 2 or any(
                kind != "tensor(float)" or len(shape) != 4 or not isinstance(shape[-1], int) for kind, shape in found
            ):
                raise ValueError(f"expected one float32 input and output [B, H, W, C]. Received: {found}")
        self._input = tensors[0].name
        self.channels = (tensors[0].shape[-1], tensors[1].shape[-1])

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Computes the output of float32 `[B, H, W, C]`."""
        return self._session.run(None, {self._input: images})[0]


def open_network(path: str | os.PathLike) -> tuple[Any, dict[str, list], dict[str, list]]:
    """Opens a network of any inputs and outputs.

    Args:
        path: ONNX file.

    Returns:
        The session of ONNX Runtime, and the shapes of inputs and of outputs by name; an open dimension is a name or
        None.

    Raises:
        OnnxFileError: ONNX Runtime is not installed, or the file is missing or damaged.
    """
    session = _open(path, optimised=True)
    inputs, outputs = (
        {tensor.name: tensor.shape for tensor in tensors} for tensors in (session.get_inputs(), session.get_outputs())
    )
    return session, inputs, outputs


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Reads the notes in an ONNX file.

    Args:
        path: ONNX file.

    Returns:
        Name -> text of `metadata_props`.

    Raises:
        OnnxFileError: ONNX Runtime is not installed, or the file is missing or damaged.
    """
    return dict(_open(path, optimised=False).get_modelmeta().custom_metadata_map)


def replace_metadata(source: str | os.PathLike, target: str | os.PathLike, notes: Mapping[str, str]) -> None:
    """Writes an ONNX file again, atomically, with some notes replaced or added.

    Args:
        source: ONNX file to read.
        target: ONNX file to write; may be the same.
        notes: Name -> text for `metadata_props`.

    Raises:
        OnnxFileError: onnx is not installed, or the file cannot be read.
        OSError: The file cannot be written.
    """
    require_packages(["onnx"], "onnx", "Writing ONNX files")
    import onnx

    with reading(source, _WHAT, OnnxFileError):
        model = onnx.load(os.fspath(source), load_external_data=False)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, **notes})
    with atomic_path(target) as temporary:
        temporary.write_bytes(model.SerializeToString())


def _open(path: str | os.PathLike, optimised: bool):
    """Opens a session. The file's bytes are handed over, so that it cannot refer to other files."""
    require_packages(["onnxruntime"], "onnx", "ONNX files")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Errors become exceptions; warnings are about the exporter's graph.
    options.log_severity_level = 4
    # Threads that wait for each other by counting take a fifth of the processor's time, and save none where others run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Bounds its threads as it does those of other libraries, such as for workers that share a machine; 0: all cores.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with reading(path, _WHAT, OnnxFileError):
        return onnxruntime.InferenceSession(Path(path).read_bytes(), options, providers=["CPUExecutionProvider"])

"""Networks in ONNX files: run by ONNX Runtime, with notes in the file's metadata. Needs no Keras."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainkit.fingerprint import weights_fingerprint
from trainkit.onnx_metadata import parse_metadata
from trainkit.onnx_weights import WeightsLayout, weights_beside
from trainkit.reading import reading

# Name in the metadata of an ONNX file that holds its weights: their fingerprint.
FINGERPRINT_NOTE = "keras_nucleus_weights_fingerprint"
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


class OnnxSession:
    """Network of any inputs and outputs, computed by ONNX Runtime on the CPU.

    The file holds the weights, or the graph alone, which reads them from the weights file of the same name beside it.

    Args:
        path: ONNX file.

    Attributes:
        inputs: Name -> shape of each input; an open dimension is a name or None.
        outputs: Name -> shape of each output, likewise.
        fingerprint: Fingerprint of the weights, see `trainkit.fingerprint`; "" where the file does not say.

    Raises:
        OnnxFileError: ONNX Runtime is not installed, or the file is missing or damaged.
        WeightsFileError: The weights file beside it is missing or damaged, or holds another network.
    """

    def __init__(self, path: str | os.PathLike):
        require_packages(["onnxruntime"], "onnx", "ONNX files")
        content, notes = _read(path)
        weights: dict[str, np.ndarray] = {}
        with reading(path, _WHAT, OnnxFileError):
            layout = WeightsLayout.from_notes(notes)
        if layout is not None:
            weights = layout.read(weights_beside(path))
        self.fingerprint = weights_fingerprint(weights.values()) if weights else notes.get(FINGERPRINT_NOTE, "")
        with reading(path, _WHAT, OnnxFileError):
            self._session = _open(content, weights)
        self._tensors = (self._session.get_inputs(), self._session.get_outputs())
        self.inputs, self.outputs = ({each.name: each.shape for each in tensors} for tensors in self._tensors)

    @property
    def types(self) -> list[str]:
        """Types of all inputs and outputs, such as "tensor(float)"."""
        return [each.type for tensors in self._tensors for each in tensors]

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Computes all outputs.

        Args:
            feeds: Name -> array of each input.
        """
        return self._session.run(list(self.outputs), dict(feeds))


class OnnxNetwork:
    """Network of one input and one output, computed by ONNX Runtime on the CPU.

    Call it with float32 `[B, H, W, C]` to get its output as float32.

    Args:
        path: ONNX file.

    Attributes:
        channels: Channels of (input, output).
        fingerprint: Fingerprint of the weights; see `OnnxSession`.

    Raises:
        OnnxFileError: ONNX Runtime is not installed, or the file is missing, damaged, or another kind of network: its
            only input and output must be float32 of four dimensions, the last of which is fixed.
        WeightsFileError: The weights file beside it cannot be used; see `OnnxSession`.
    """

    def __init__(self, path: str | os.PathLike):
        self._session = OnnxSession(path)
        shapes = [*self._session.inputs.values(), *self._session.outputs.values()]
        with reading(path, "no network from images to images", OnnxFileError):
            found = list(zip(self._session.types, shapes, strict=True))
            if len(found) != 2 or any(
                kind != "tensor(float)" or len(shape) != 4 or not isinstance(shape[-1], int) for kind, shape in found
            ):
                raise ValueError(f"expected one float32 input and output [B, H, W, C]. Received: {found}")
        (self._input,) = self._session.inputs
        self.channels = (shapes[0][-1], shapes[1][-1])
        self.fingerprint = self._session.fingerprint

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Computes the output of float32 `[B, H, W, C]`."""
        (output,) = self._session.run({self._input: images})
        return output


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Reads the notes in an ONNX file; needs no ONNX Runtime.

    Args:
        path: ONNX file.

    Returns:
        Name -> text of `metadata_props`.

    Raises:
        OnnxFileError: The file is missing or damaged.
    """
    return _read(path)[1]


def _read(path: str | os.PathLike) -> tuple[bytes, dict[str, str]]:
    """Returns the content of an ONNX file and the notes in it."""
    with reading(path, _WHAT, OnnxFileError):
        content = Path(path).read_bytes()
        return content, parse_metadata(content)


def _open(content: bytes, weights: Mapping[str, np.ndarray]) -> Any:
    """Opens a session. The file's bytes are handed over, so that it cannot refer to other files."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Errors become exceptions; warnings are about the exporter's graph.
    options.log_severity_level = 4
    # One arena of memory for all networks of the process; each by itself would keep what its largest image took.
    _share_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Threads that wait for each other by counting take a fifth of the processor's time, and save none where others run.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Bounds its threads as it does those of other libraries, such as for workers that share a machine; 0: all cores.
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)) for array in weights.values()]
    if values:
        options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@functools.cache
def _share_arena() -> None:
    """Registers the memory that all sessions of this process share, which grows by what is asked for."""
    import onnxruntime

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # No limit, no more than is asked for, and ONNX Runtime's own values for the rest.
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(0, 1, -1, -1))

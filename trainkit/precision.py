"""Numerical precision of a network: explicit, or chosen for the processor. Needs no Keras."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
# Linux's names of processor instructions for products of bfloat16.
_BFLOAT16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
_CPU_INFO = Path("/proc/cpuinfo")


def resolve_precision(precision: str) -> str:
    """Returns the dtype policy for a setting.

    Args:
        precision: One of `PRECISIONS`. "auto" depends on the processor, whatever accelerator there is: 16-bit
            arithmetic with float32 weights where TensorFlow runs on one that multiplies bfloat16, else float32.

    Raises:
        ValueError: The precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}")
    if precision != "auto":
        return precision
    import keras

    # TensorFlow's kernels use the instructions; other backends may not.
    fast = keras.backend.backend() == "tensorflow" and multiplies_bfloat16()
    return "mixed_bfloat16" if fast else "float32"


def multiplies_bfloat16() -> bool:
    """Returns whether Linux lists instructions for products of bfloat16 (AMX or AVX-512) for this processor."""
    return bool(_BFLOAT16_FLAGS & _cpu_flags(_CPU_INFO)) if platform.system() == "Linux" else False


@lru_cache
def _cpu_flags(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return frozenset(next((line.split() for line in lines if line.startswith("flags")), ()))

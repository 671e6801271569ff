"""Arithmetic is what was asked for, and what the processor is fast at where that is left to it."""

import keras
import pytest

from trainkit import precision
from trainkit.precision import multiplies_bfloat16, resolve_precision
from unet.architecture import build_unet
from unet.config import UNetConfig

INFO = "processor\t: 0\nmodel name\t: X\nflags\t\t: fpu sse2 {}\n\nprocessor\t: 1\nflags\t\t: fpu sse2 {}\n"


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("avx512_bf16", "mixed_bfloat16"),
        ("avx512f amx_bf16 amx_tile", "mixed_bfloat16"),
        ("avx512f avx512_vnni", "float32"),
        ("", "float32"),
    ],
)
def test_auto_asks_the_processor(tmp_path, monkeypatch, flag, expected):
    path = tmp_path / "cpuinfo"
    path.write_text(INFO.format(flag, flag))
    monkeypatch.setattr(precision, "_CPU_INFO", path)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert resolve_precision("auto") == expected
    assert resolve_precision("float32") == "float32"
    assert resolve_precision("mixed_float16") == "mixed_float16"
    if expected == "mixed_bfloat16":
        network = build_unet(UNetConfig.from_preset("small", {"PRECISION": "auto"}))
        assert {layer.compute_dtype for layer in network.layers if isinstance(layer, keras.layers.Conv2D)} == {
            "bfloat16"
        }


def test_other_systems_and_silence_mean_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "absent")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert not multiplies_bfloat16()
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert resolve_precision("auto") == "float32"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'bf16'"):
        resolve_precision("bf16")

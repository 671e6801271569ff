"""Notes of ONNX files, read byte by byte."""

import onnx
import pytest

from trainkit.onnx_metadata import parse_metadata


@pytest.fixture
def model() -> onnx.ModelProto:
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab"]
    made = onnx.helper.make_model(onnx.helper.make_graph([node], "graph", values[:1], values[1:]))
    made.model_version = 2**40
    return made


def test_notes_are_those_that_were_written(model):
    notes = {"long": "x" * 300, "empty": "", "unicode": "µm 細胞"}
    onnx.helper.set_model_props(model, notes)
    assert parse_metadata(model.SerializeToString()) == notes
    del model.metadata_props[:]
    assert parse_metadata(model.SerializeToString()) == {}


@pytest.mark.parametrize("content", [b"no model", b"\x3a\x7f1", b"\x3a", b"\x08" + b"\xff" * 11, b"\x72\x02\x0a\x05"])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(ValueError):
        parse_metadata(content)

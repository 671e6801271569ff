"""Notes in an ONNX file, read without ONNX Runtime, which would build the network first."""

from __future__ import annotations

from collections.abc import Iterator

# Numbers of the fields in onnx.proto: `ModelProto.metadata_props`, and `StringStringEntryProto`'s key and value.
_METADATA, _KEY, _VALUE = 14, 1, 2
# Kinds of fields in Protocol Buffers' encoding: a number of variable length, 8 bytes, bytes with their length, 4 bytes.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse_metadata(model: bytes) -> dict[str, str]:
    """Returns the notes of a serialised model.

    Args:
        model: Content of an ONNX file, a `ModelProto`.

    Returns:
        Name -> text of `metadata_props`.

    Raises:
        ValueError: The bytes are no message of Protocol Buffers, or end in the middle of it.
    """
    notes = {}
    for number, entry in _fields(memoryview(model)):
        if number == _METADATA:
            parts = dict(_fields(entry))
            notes[_text(parts.get(_KEY))] = _text(parts.get(_VALUE))
    return notes


def _text(value: memoryview | None) -> str:
    return "" if value is None else bytes(value).decode("utf-8")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yields number and content of the fields that have a length; the others are passed over."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, position = _read_varint(message, position)
            continue
        if kind == _BYTES:
            length, position = _read_varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"unknown kind of field, {kind}")
        if number == 0 or position + length > len(message):
            raise ValueError("it ends in the middle of a field")
        if kind == _BYTES:
            yield number, message[position : position + length]
        position += length


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns a number, seven bits a byte, the lowest first, and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")

"""Whatever a reader of a file raises becomes one error that names the file."""

import json

import pytest

from trainkit.reading import read_json, reading


class OwnError(ValueError):
    pass


@pytest.mark.parametrize(
    ("problem", "cause"),
    [
        (KeyError("epoch"), "no list (it lacks 'epoch')"),
        (RecursionError("maximum depth"), "no list (nested too deeply)"),
        (MemoryError(), "no list (needs more memory than there is)"),
        (OverflowError("too large"), "no list (OverflowError: too large)"),
        (ValueError("odd"), "no list (odd)"),
        (OwnError("odd"), "no list (odd)"),
        (FileNotFoundError(2, "No such file"), "cannot be read (No such file)"),
        (AttributeError("x" * 5000), f"no list (AttributeError: {'x' * 300}...)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_exception_becomes_the_readers_own_and_is_chained(problem, cause):
    with pytest.raises(OwnError) as error, reading("a/b.json", "no list", OwnError):
        raise problem
    assert str(error.value) == f"a/b.json: {cause}" and error.value.__cause__ is problem


def test_an_error_that_names_the_file_passes_and_ctrl_c_is_no_error_of_it():
    own = OwnError("b.json, line 3: odd")
    with pytest.raises(OwnError) as error, reading("b.json", "no list", OwnError):
        raise own
    assert error.value is own
    with pytest.raises(KeyboardInterrupt), reading("b.json"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"[1]", "expected an object in braces; found a list"),
        (b'{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
        (b"", "Expecting value"),
    ],
    ids=["list", "twice", "utf-8", "deep", "huge", "empty"],
)
def test_json_that_is_no_object_is_named(tmp_path, content, cause):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(OwnError, match=rf"a\.json: no settings \(.*{cause}"):
        read_json(path, "no settings", OwnError)
    with pytest.raises(OwnError, match=r"gone\.json: cannot be read \(No such file"):
        read_json(tmp_path / "gone.json", "no settings", OwnError)
    path.write_text(json.dumps({"µ": [1, None]}), encoding="utf-8")
    assert read_json(path, "no settings") == {"µ": [1, None]}

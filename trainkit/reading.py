"""Reading of files that come from outside: whatever is wrong with one becomes an error that names it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Most characters of another error's message that an error repeats.
_LONGEST = 300


@contextmanager
def reading(source: str | os.PathLike, what: str = "", error: type[ValueError] = ValueError) -> Iterator[None]:
    """Turns every exception of a block that reads a file into one error that names the file.

    An exception of the class `error` whose message names the file already passes unchanged; any other is chained.

    Args:
        source: Path of the file, or the path and a place in it ("a.json, annotation 3").
        what: Description of the failure, such as "is no file of folds"; by default the message is the cause alone.
        error: Class of the error.

    Yields:
        Nothing.

    Raises:
        ValueError: The block failed; an instance of `error`.

    Examples:
        >>> with reading("a.json", "is no list of sizes"):
        ...     {"size": [3]}["sizes"]
        Traceback (most recent call last):
        ValueError: a.json: is no list of sizes (it lacks 'sizes')
    """
    source = os.fspath(source)
    try:
        yield
    except Exception as problem:
        if isinstance(problem, error) and source in str(problem):
            raise
        if isinstance(problem, OSError) and problem.strerror:
            raise error(f"{source}: cannot be read ({problem.strerror})") from problem
        cause = _describe(problem)
        raise error(f"{source}: {what} ({cause})" if what else f"{source}: {cause}") from problem


def read_json(path: str | os.PathLike, what: str, error: type[ValueError] = ValueError) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
        path: The file.
        what: Description of the failure where it cannot be read, such as "is no file of folds".
        error: Class of the error.

    Returns:
        The object. Its values are whatever the file holds; the caller checks their types and ranges.

    Raises:
        ValueError: The file cannot be read, is no JSON, holds something other than an object, or has a name twice in
            one object; an instance of `error` that names the file.
    """
    with reading(path, what, error):
        content = json.loads(Path(path).read_bytes(), object_pairs_hook=_object)
        if not isinstance(content, dict):
            raise ValueError(f"expected an object in braces; found a {type(content).__name__}")
        return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes the dictionary of a JSON object, in which no name may occur twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} occurs twice in one object")
    return found


def _describe(problem: Exception) -> str:
    """Describes an exception in words for the user."""
    if isinstance(problem, RecursionError):
        return "nested too deeply"
    if isinstance(problem, MemoryError):
        return f"needs more memory than there is: {problem}" if str(problem) else "needs more memory than there is"
    if isinstance(problem, UnicodeError):
        return f"not UTF-8: {problem}"
    text = str(problem)
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    if type(problem) is KeyError:
        return f"it lacks {text}"
    # Messages of errors in the file's favour are written for users, those of Python's own for programmers.
    expected = isinstance(problem, ValueError | OSError) and text
    return text if expected else f"{type(problem).__name__}: {text}" if text else type(problem).__name__

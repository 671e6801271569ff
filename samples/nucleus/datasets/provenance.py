"""Notes of what a folder was made from, so that a later call resumes with the same inputs or is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trainkit.files import write_text
from trainkit.reading import read_json, reading

# The note in a folder of results; see `nucleus.prediction.manifest`.
MANIFEST_FILE = "manifest.json"

_Note = TypeVar("_Note")
_ABSENT = object()

_log = logging.getLogger(__name__)


class ProvenanceError(ValueError):
    """A folder was made from other inputs than those given now, or does not record its inputs."""


def differences(noted: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Lists the values in which a note differs from what is given now.

    Args:
        noted: Content of the note.
        given: The same facts now, as JSON-compatible values; tuples equal lists.

    Returns:
        A phrase for each value, nested names joined by dots, such as "settings.SEED was 0, is now 3"; empty if the two
        are equal.
    """
    before, now = dict(_values(as_json(noted))), dict(_values(as_json(given)))
    return [
        f"{name} {_told(before, name, 'was', 'was not given')}, {_told(now, name, 'is now', 'is not given now')}"
        for name in {**before, **now}
        if before.get(name, _ABSENT) != now.get(name, _ABSENT)
    ]


def require_same(where: str | Path, what: str, noted: Mapping[str, Any] | None, given: Mapping[str, Any]) -> None:
    """Raises an error if a folder was made from other facts than those given now, or from unknown ones.

    Args:
        where: The note or the folder, for the message.
        what: The kind of facts, in the plural, for the message: "images", "settings".
        noted: Content of the note; None where there is none.
        given: The same facts now, as JSON-compatible values.

    Raises:
        ProvenanceError: There is no note, or the two differ; the message names the first difference.
    """
    if noted is None:
        raise ProvenanceError(
            f"{where}: has no note of the {what} that it was made with, so it cannot be continued. Choose another "
            "output folder."
        )
    found = differences(noted, given)
    if found:
        more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
        raise ProvenanceError(
            f"{where}: made with other {what} than those given now ({found[0]}{more}). Choose another output folder."
        )


def write_note(path: Path, facts: Mapping[str, Any]) -> None:
    """Writes a note as JSON.

    Args:
        path: File to write.
        facts: Everything that the folder's content depends on, as JSON-compatible values.

    Raises:
        OSError: The file cannot be written.
    """
    write_text(path, json.dumps(facts, indent=2) + "\n")


def read_note(path: Path, kind: Callable[..., _Note] = dict) -> _Note | None:
    """Reads a note.

    Args:
        path: The file.
        kind: Type of the result, called with the facts as keywords.

    Returns:
        The facts; None where there is no file.

    Raises:
        ProvenanceError: The file cannot be read as such a note.
    """
    if not path.is_file():
        return None
    what = "no note of what its folder was made from; remove the folder to make it again"
    content = read_json(path, what, ProvenanceError)
    with reading(path, what, ProvenanceError):
        return kind(**content)


def check_note(path: Path, what: str, given: Mapping[str, Any]) -> None:
    """Raises an error if a folder was made from other facts; logs a warning if it has no note.

    Args:
        path: The note.
        what: The kind of facts; see `require_same`.
        given: The facts now, as JSON-compatible values.

    Raises:
        ProvenanceError: The folder was made from other facts, or the note cannot be read.
    """
    noted = read_note(path)
    if noted is None:
        _log.warning("%s: missing, so the %s that its folder was made with are unknown; continuing", path, what)
    else:
        require_same(path, what, noted, given)


def as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns facts as they are read again from JSON."""
    return json.loads(json.dumps(facts))


def _values(facts: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every number, text, truth value and null of a JSON value with its name."""
    if isinstance(facts, dict | list):
        for key, value in facts.items() if isinstance(facts, dict) else enumerate(facts):
            yield from _values(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, facts


def _told(values: Mapping[str, Any], name: str, there: str, absent: str) -> str:
    return f"{there} {values[name]!r}" if name in values else absent

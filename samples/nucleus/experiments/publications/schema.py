"""Keys of the TOML files of experiments with the types of their values, and the checks of both."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class EntryError(ValueError):
    """An entry that cannot be used; the message names the file, the entry and the cause."""


class Kind(NamedTuple):
    """The type of a key's value.

    Attributes:
        name: Name of the type in error messages.
        fits: Function that returns True for a value of the type.
    """

    name: str
    fits: Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


_TEXT = Kind("a text", _is_text)
TEXTS = Kind("a list of texts", _list_of(_is_text))
_NOTES = Kind("a list of texts, which may be empty", lambda value: value == [] or _list_of(_is_text)(value))
_TABLE = Kind("a table", _is_table)
_TABLES = Kind("a list of tables", _list_of(_is_table))
_TABLE_OF_TABLES = Kind("tables with names", lambda value: _is_table(value) and all(map(_is_table, value.values())))
_TABLE_OF_TEXT = Kind("a table of texts", lambda value: _is_table(value) and all(map(_is_text, value.values())))

FILE = {
    "publication": _TABLE,
    "data_sets": _TABLE_OF_TABLES,
    "notes": _TABLE,
    "defaults": _TABLE,
    "experiments": _TABLE_OF_TABLES,
}
PUBLICATION = {"authors": _TEXT, "title": _TEXT, "published": _TEXT}
DATA_SET = {"name": _TEXT, "folder": _TEXT, "obtain": _TEXT, "tests": _TABLE_OF_TEXT}
TRAINING = {"preset": _TEXT, "weights": _TEXT, "settings": _TABLE}
DEFAULTS = {
    "model": _TEXT,
    "data": _TEXT,
    "fit": Kind("a whole number of pixels above 0", _is_count),
    "folds": Kind("0 or a whole number from 2 on", lambda value: _is_count(value, 0) and value != 1),
    "held_out": Kind("a list of whole numbers from 1 on", _list_of(_is_count)),
    **TRAINING,
    "trainings": _TABLES,
    "inference": _TABLE,
    "whole_epochs": Kind("true or false", lambda value: isinstance(value, bool)),
    "members": TEXTS,
    "notes": _NOTES,
}
EXPERIMENT = {
    "base": _TEXT,
    "summary": _TEXT,
    "place": _TEXT,
    "figures": _TABLES,
    "ranked_as": _TEXT,
    **DEFAULTS,
}


def check(where: str, table: Mapping[str, Any], kinds: Mapping[str, Kind], *required: str) -> None:
    """Checks the keys of a table and the types of their values.

    Args:
        where: File and entry, for error messages.
        table: The table.
        kinds: Key -> type, of all keys that the table may have.
        *required: Keys that it must have.

    Raises:
        EntryError: A key is unknown or missing, or a value is of another type.
    """
    for key, value in table.items():
        require_known(where, "key", key, kinds)
        if not kinds[key].fits(value):
            raise EntryError(f"{where}: {key} needs {kinds[key].name}. Received: {value!r}")
    require(where, table, *required)


def require(where: str, table: Mapping[str, Any], *keys: str) -> None:
    """Raises EntryError if a table lacks a key; `where` names file and entry."""
    for key in keys:
        if key not in table:
            raise EntryError(f"{where}: {key} is missing")


def require_known(where: str, what: str, name: Any, known: Iterable[str]) -> None:
    """Checks that a name exists.

    Args:
        where: File and entry, for error messages.
        what: Kind of the name, such as "key", for error messages.
        name: The name.
        known: All names that exist, of which the error suggests the nearest.

    Raises:
        EntryError: The name is unknown.
    """
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(filter(None, known)) or 'none'}."
        raise EntryError(f"{where}: unknown {what} {name!r}. {hint}")


def refuse_known(where: str, name: str, known: Iterable[str]) -> None:
    """Raises EntryError if a name is among those of other files; `where` names file and entry."""
    if name in known:
        raise EntryError(f"{where}: this name is used by another file already")

"""Parser whose errors show a command's own usage, and that takes an option once unless it is a list."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any


class UsageError(ValueError):
    """Options that do not go together, or lack something; reported with the command's usage."""


class CommandParser(argparse.ArgumentParser):
    """Parser of a command.

    An unknown option is an error of the command that it was given to, not of the whole program, so that the usage shown
    is the one to look at. A single value given twice is an error: one of the two would be ignored.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.register("action", None, _StoreOnce)
        self.register("action", "store", _StoreOnce)
        self.register("action", "append_once", _AppendOnce)
        self.given: set[str] = set()

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parses arguments; ends with the usage of this command where some are unknown."""
        self.given = set()
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown arguments: {' '.join(unknown)}")
        return parsed, []


class _StoreOnce(argparse.Action):
    """Stores a value, and refuses a second one for the same option."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if option_string is not None:
            if self.option_strings[0] in parser.given:
                raise argparse.ArgumentError(self, "given twice")
            parser.given.add(self.option_strings[0])
        self.store(namespace, values)

    def store(self, namespace: Any, values: Any) -> None:
        """Stores the value."""
        setattr(namespace, self.dest, values)


class _AppendOnce(_StoreOnce):
    """Adds a value to a list that it shares with other options, and refuses a second one of this option."""

    def store(self, namespace: Any, values: Any) -> None:
        """Adds the value to the list."""
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), values])


def suggest(word: str, known: Sequence[str]) -> str:
    """Returns a sentence that names the known words nearest to a mistyped one, or lists all where none is near.

    Args:
        word: The mistyped word.
        known: All words that exist.

    Examples:
        >>> suggest("detcet", ["train", "detect"])
        'Did you mean detect?'
        >>> suggest("xyz", ["train", "detect"])
        'Known: train, detect.'
    """
    near = difflib.get_close_matches(word, known)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."

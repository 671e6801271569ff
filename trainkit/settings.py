"""Settings as the upper-case attributes of a class: overridden in subclasses, changed by name, checked, listed."""

from __future__ import annotations

import ast
import copy
import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np


class SettingsError(ValueError):
    """Unknown setting, or value that cannot be used."""


class Settings:
    """Configuration: every upper-case attribute is a setting, whose default determines its type.

    A subclass declares its settings with their defaults, exceptions in the attributes with a leading underscore,
    computes settings that follow from others in `_derive`, and checks values in `validate`.

    Examples:
        >>> class Training(Settings):
        ...     RATE = 0.01
        ...     SIZES = (8, 16)
        ...     CROP = True
        >>> training = Training().update({"RATE": "0.5", "SIZES": [4, 8], "CROP": "false"})
        >>> training.to_dict()
        {'CROP': False, 'RATE': 0.5, 'SIZES': (4, 8)}
        >>> training.update({"RATES": 1})
        Traceback (most recent call last):
        trainkit.settings.SettingsError: Unknown configuration attribute 'RATES'. Did you mean RATE?
    """

    # Names of settings that `_derive` computes and nobody sets.
    _COMPUTED: Collection[str] = ()
    # Names of settings that may be None as well.
    _OPTIONAL: Collection[str] = ()
    # Names of settings that may be a callable as well.
    _CALLABLE: Collection[str] = ()
    # Types of settings whose default does not determine them: None, or a whole number for a fraction.
    _TYPES: Mapping[str, type] = {}

    def __init__(self):
        self._derive()

    def _derive(self) -> None:
        """Computes the settings that follow from others."""

    def to_dict(self) -> dict[str, Any]:
        """Returns every setting's value by name, in alphabetical order."""
        return {
            name: getattr(self, name)
            for name in sorted(dir(self))
            if name.isupper() and not name.startswith("_") and not inspect.ismethod(getattr(self, name))
        }

    def changed(self, settings: Mapping[str, Any]) -> Settings:
        """Returns a copy with some settings changed; see `update`."""
        return copy.copy(self).update(settings)

    def display(self) -> None:
        """Prints every setting."""
        print("\nConfigurations:")
        for name, value in self.to_dict().items():
            print(f"{name:30} {value}")
        print()

    def update(self, settings: Mapping[str, Any]) -> Settings:
        """Changes settings by name.

        Args:
            settings: Values by the attribute's name. Text is read as a Python literal unless the attribute is text
                itself; a tuple, list or array accepts any of the three.

        Returns:
            This configuration.

        Raises:
            SettingsError: A name is unknown or a value has the wrong type, and nothing is changed; or the values
                do not fit each other.
        """
        checked = {name: self._convert(name, value) for name, value in settings.items()}
        for name, value in checked.items():
            setattr(self, name, value)
        self._derive()
        self.validate()
        return self

    def validate(self) -> None:
        """Checks the values; a subclass overrides this.

        Raises:
            SettingsError: A value is out of its range; the message names the attribute.
        """

    def require_choice(self, name: str, choices: Collection[Any]) -> None:
        """Raises SettingsError unless a setting is one of `choices`."""
        self._require([name], lambda value: value in choices, f"one of {tuple(choices)}")

    def require_at_least(self, minimum: float, *names: str) -> None:
        """Raises SettingsError unless settings are numbers from `minimum` on."""
        self._require(names, lambda value: value >= minimum, f"at least {minimum}")

    def require_above(self, minimum: float, *names: str) -> None:
        """Raises SettingsError unless settings are numbers above `minimum`."""
        self._require(names, lambda value: value > minimum, f"above {minimum}")

    def require_each(self, minimum: float, count: int | None, *names: str) -> None:
        """Raises SettingsError unless settings are lists of numbers from `minimum` on, of length `count` if given."""
        for name in names:
            values = getattr(self, name)
            if not len(values) or any(not value >= minimum for value in values):
                raise SettingsError(f"{name} needs numbers from {minimum} on. Received: {values!r}")
            if count is not None and len(values) != count:
                raise SettingsError(f"{name} needs {count} numbers. Received: {values!r}")

    def require_file_name(self, name: str) -> None:
        """Raises SettingsError unless a setting is None or text that may be part of a file's name."""
        value = getattr(self, name)
        if value is not None and (not str(value).strip() or set(str(value)) & set("/\\\0")):
            raise SettingsError(f"{name} becomes part of file names: no slash, and not empty. Received: {value!r}")

    def require_share(self, *names: str) -> None:
        """Raises SettingsError unless settings are above 0 and at most 1."""
        self._require(names, lambda value: 0 < value <= 1, "above 0 and at most 1")

    def require_probability(self, *names: str) -> None:
        """Raises SettingsError unless settings are from 0 to 1."""
        self._require(names, lambda value: 0 <= value <= 1, "from 0 to 1")

    def _require(self, names: Iterable[str], fits: Callable[[Any], bool], expected: str) -> None:
        for name in names:
            if not fits(getattr(self, name)):
                raise SettingsError(f"{name} must be {expected}. Received: {getattr(self, name)!r}")

    def _convert(self, name: str, value: Any) -> Any:
        """Converts a value to a setting's type, reading text.

        Raises:
            SettingsError: The name is unknown or computed, or the value has another type.
        """
        known = self.to_dict()
        if name not in known:
            spelled_alike = [other for other in known if other.replace("_", "") == name.upper().replace("_", "")]
            close = spelled_alike or difflib.get_close_matches(name.upper(), known, cutoff=0.8)
            hint = f" Did you mean {' or '.join(close)}?" if close else f" Known: {', '.join(known)}."
            raise SettingsError(f"Unknown configuration attribute {name!r}.{hint}")
        if name in self._COMPUTED:
            raise SettingsError(f"{name} is computed from other attributes and cannot be set.")
        current = known[name]
        kind, reference = self._kind(name)
        if name in self._OPTIONAL and (value is None or (isinstance(value, str) and value == "None")):
            return None
        if isinstance(value, str) and kind is not str:
            try:
                value = ast.literal_eval(value.capitalize() if kind is bool else value)
            except (ValueError, SyntaxError):
                raise wrong_type(name, current, value) from None
        if name in self._CALLABLE and callable(value):
            return value
        try:
            return _coerce(kind, reference, value)
        except TypeError:
            raise wrong_type(name, current, value) from None

    def _kind(self, name: str) -> tuple[type, Any]:
        """Returns the type of a setting and a value of that type, the current one if possible.

        A subclass may write 0 for 0.0: a fraction anywhere up the classes makes the setting a fraction.
        """
        values = [value for value in self._values(name) if not (name in self._CALLABLE and callable(value))]
        reference = next((value for value in values if value is not None), None)
        if name in self._TYPES:
            return self._TYPES[name], reference
        whole = isinstance(reference, int) and not isinstance(reference, bool)
        if whole and any(isinstance(value, float) for value in values):
            return float, reference
        return type(reference), reference

    def _values(self, name: str) -> Iterator[Any]:
        """Yields the setting's current value, then its defaults from the most derived class on."""
        yield getattr(self, name)
        for cls in type(self).__mro__:
            if hasattr(cls, name):
                yield getattr(cls, name)


def wrong_type(name: str, current: Any, value: Any) -> SettingsError:
    """Returns the error for a value of the wrong type.

    Args:
        name: Name of the setting.
        current: Value that the setting has.
        value: Value that was received.
    """
    return SettingsError(f"{name} needs a value like {current!r} ({type(current).__name__}). Received: {value!r}")


def parse_stages(value: Any, example: str) -> tuple[tuple, ...]:
    """Reads the stages of a training.

    Args:
        value: List of (layers, epochs) or (layers, epochs, learning rate), or its text.
        example: Example of such a list as text, for the message.

    Returns:
        The stages as a tuple of tuples.

    Raises:
        SettingsError: The value is something else.

    Examples:
        >>> parse_stages("[('heads', 2), ('all', 3, 1e-4)]", example="[('all', 10)]")
        (('heads', 2), ('all', 3, 0.0001))
    """
    wrong = SettingsError(
        f"STAGES needs a list of (layers, epochs) or (layers, epochs, learning rate), such as {example}. "
        f"Received: {value!r}"
    )
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise wrong from None
    if not isinstance(value, list | tuple) or not value:
        raise wrong
    for stage in value:
        if not isinstance(stage, list | tuple) or len(stage) not in (2, 3):
            raise wrong
        layers, epochs, *rate = stage
        whole = isinstance(epochs, int) and not isinstance(epochs, bool) and epochs > 0
        if not isinstance(layers, str) or not whole or not all(_is_number(r) and r > 0 for r in rate):
            raise wrong
    return tuple(tuple(stage) for stage in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _coerce(kind: type, reference: Any, value: Any) -> Any:
    """Converts a value to a type, of which `reference` is a value; raises TypeError if it does not fit."""
    number = _is_number(value)
    if issubclass(kind, bool):
        fits = isinstance(value, bool)
    elif issubclass(kind, int):
        fits = number and isinstance(value, int | np.integer)
        value = int(value) if fits else value
    elif issubclass(kind, float):
        fits = number
        value = float(value) if fits else value
    elif issubclass(kind, dict):
        fits = isinstance(value, dict) and set(value) <= set(reference) and all(map(_is_number, value.values()))
        if fits:
            value = {**reference, **{key: float(weight) for key, weight in value.items()}}
    elif issubclass(kind, tuple | list | np.ndarray):
        fits = isinstance(value, tuple | list | np.ndarray) and all(map(_is_number, value))
        if fits:
            value = np.array(value) if issubclass(kind, np.ndarray) else kind(value)
    else:
        fits = isinstance(value, kind)
    if not fits:
        raise TypeError
    return value

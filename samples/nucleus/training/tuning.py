"""Values of settings to try, read from text."""

from __future__ import annotations

from typing import Any

from nucleus.models.registry import ModelConfig


def parse_values(config: ModelConfig, name: str, text: str) -> tuple[Any, ...]:
    """Reads the values to try from a comma-separated list, such as `0.3,0.5` or `watershed,random-walker`.

    Args:
        config: Configuration that determines the setting's type and permitted values.
        name: Name of the setting.
        text: The comma-separated list.

    Raises:
        ValueError: A value is missing, or the setting cannot have it.
    """
    values = split_values(text)
    if not all(values):
        raise ValueError(f"{name} needs values separated by commas. Received: {text!r}")
    return tuple(getattr(config.changed({name: value}), name) for value in values)


def split_values(text: str) -> list[str]:
    """Splits a list at its commas, except those inside brackets: `(8,16),(16,32)` are two values.

    Args:
        text: The comma-separated list.
    """
    values, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]

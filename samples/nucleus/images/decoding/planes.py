"""The choice of what to read of a file that holds several channels, planes or frames, and the rule that applies it.

Everything is numbered from 1, as ImageJ and QuPath show it. A channel is chosen by its name in OME-XML or in ImageJ's
labels, or by its number; "#2" is always the number. Channels of a colour image are red, green and blue. What is neither
chosen nor unambiguous is refused, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from nucleus.images.decoding.base import ImageFileError

COLOURS = ("red", "green", "blue")
PROJECTIONS = ("max", "mean")


class Chosen(NamedTuple):
    """Frame, planes and channels that a choice takes of one file; all indices count from 0.

    Attributes:
        frame: Index of the frame.
        planes: Indices of the planes, several if they are projected.
        channels: Indices of the channels: one, or those that become red, green and blue.
    """

    frame: int
    planes: range
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Planes:
    """Choice of what to read of files that hold more than one grey or colour image.

    Attributes:
        channel: Name or number (from 1 on) of a channel, or three of them for red, green and blue. None for files of
            one channel and for colour images.
        plane: Number of the plane of a z-stack, from 1 on.
        project: Projection of a z-stack instead of a plane: "max", or "mean" (rounded where samples are whole numbers).
        frame: Number of the frame of a time series, from 1 on.

    Raises:
        ValueError: A value has another type or range, or both a plane and a projection are asked for.
    """

    channel: str | int | Sequence[str | int] | None = None
    plane: int | None = None
    project: Literal["max", "mean"] | None = None
    frame: int | None = None

    def __post_init__(self) -> None:
        wanted = self.wanted()
        if len(wanted) not in (0, 1, 3) or not all(isinstance(each, str) or _is_number(each) for each in wanted):
            raise ValueError(
                "channel must be a name or a number from 1 on, or three for red, green and blue; received "
                f"{self.channel!r}"
            )
        for name in ("plane", "frame"):
            value = getattr(self, name)
            if value is not None and not _is_number(value):
                raise ValueError(f"{name} must be a whole number from 1 on; received {value!r}")
        if self.project not in (None, *PROJECTIONS):
            raise ValueError(f"project must be one of {', '.join(PROJECTIONS)}; received {self.project!r}")
        if self.plane is not None and self.project is not None:
            raise ValueError("either a plane or a projection of all planes can be read; received both")

    def wanted(self) -> tuple[str | int, ...]:
        """Returns the chosen channels as a tuple, empty if none is chosen."""
        if self.channel is None:
            return ()
        return tuple(self.channel) if isinstance(self.channel, list | tuple) else (self.channel,)

    def choose(self, frames: int, planes: int, channels: Sequence[str], colour: bool) -> Chosen:
        """Applies the choice to one file.

        Args:
            frames: Number of frames.
            planes: Number of planes.
            channels: Names of the channels, "" for one without a name.
            colour: True if the channels together are a colour image, which needs no choice.

        Raises:
            ImageFileError: The choice is not in the file, or leaves open which frame, plane or channel is meant.
        """
        self._require(frames, planes, channels, colour)
        if self.project is None:
            first = _in_range("plane", self.plane, planes)
            taken = range(first, first + 1)
        else:
            taken = range(planes)
        indices = tuple(_find_channel(each, channels) for each in self.wanted())
        return Chosen(_in_range("frame", self.frame, frames), taken, indices or tuple(range(len(channels))))

    def _require(self, frames: int, planes: int, channels: Sequence[str], colour: bool) -> None:
        open_ = []
        if frames > 1 and self.frame is None:
            open_.append(f"{frames} frames (choose one: --frame=N, from 1 on)")
        if planes > 1 and self.plane is None and self.project is None:
            open_.append(f"{planes} planes (choose one: --plane=N, from 1 on, or --project=max or mean)")
        stack = bool(open_)
        if len(channels) > 1 and not colour and self.channel is None:
            open_.append(
                f"{len(channels)} channels that are no colours, {_list(channels)} (choose one: --channel=NAME or N; "
                "given three times, it chooses red, green and blue)"
            )
        if open_:
            raise ImageFileError(f"the TIFF holds {'a stack: ' if stack else ''}{'; '.join(open_)}")


def project(planes: Sequence[np.ndarray] | map, method: Literal["max", "mean"]) -> np.ndarray:
    """Projects planes, reading one at a time.

    Args:
        planes: Arrays of one shape and dtype; at least one.
        method: "max" or "mean".

    Returns:
        An array of that shape and dtype; means of whole numbers are rounded.
    """
    rest = iter(planes)
    first = next(rest)
    if method == "max":
        result = first.copy()
        for plane in rest:
            np.maximum(result, plane, out=result)
        return result
    total, count = first.astype(np.float64), 1
    for plane in rest:
        total += plane
        count += 1
    total /= count
    return (total if np.issubdtype(first.dtype, np.floating) else np.rint(total)).astype(first.dtype)


def _is_number(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1


def _in_range(what: str, number: int | None, count: int) -> int:
    """Returns the index of a number from 1 on; that of the only one if there is no number."""
    if number is not None and number > count:
        raise ImageFileError(f"there is no {what} {number}; the file has {count}")
    return 0 if number is None else number - 1


def _find_channel(wanted: str | int, names: Sequence[str]) -> int:
    text = str(wanted)
    digits = text.removeprefix("#")
    number = int(digits) - 1 if digits.isdecimal() else None
    if isinstance(wanted, str) and not text.startswith("#"):
        same = [i for i, name in enumerate(names) if name == text]
        same = same or [i for i, name in enumerate(names) if name.casefold() == text.casefold()]
        others = [] if number is None or number in same or not 0 <= number < len(names) else [number]
        if len(same) == 1 and not others:
            return same[0]
        if same:
            raise ImageFileError(f"channel {text!r} can be several of {_list(names)}: choose by number, as #1")
    if number is None or not 0 <= number < len(names):
        raise ImageFileError(f"there is no channel {text!r}; the file has {_list(names)}")
    return number


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name or '(no name)'}" for number, name in enumerate(names, start=1))


# For files that need no choice.
NO_CHOICE = Planes()
# The first of everything, for what is the same in all planes, such as height and width.
FIRST = Planes(channel=1, plane=1, frame=1)

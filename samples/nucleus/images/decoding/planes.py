"""The choice of what to read of a file that holds several channels, planes, frames or scenes, and the rule for it.

Everything is numbered from 1, as ImageJ and QuPath show it. A channel is chosen by its name in OME-XML or in ImageJ's
labels, or by its number; "#2" is always the number. Channels of a colour image are red, green and blue. A scene (one of
several separate images in a file) is chosen in the same way. What is neither chosen nor unambiguous is refused, never
guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from nucleus.images.decoding.base import ImageFileError

COLOURS = ("red", "green", "blue")
PROJECTIONS = ("max", "mean")
# Every plane, or every frame, as an image of its own.
ALL = "all"


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


class Place(NamedTuple):
    """Place of one image among all planes and frames of a file.

    Attributes:
        stack: Name of the file's stack.
        frame: Number of the frame, from 1 on; None where not all frames are read.
        plane: Number of the plane, from 1 on; None where not all planes are read.
        frames: Number of frames that are read.
        planes: Number of planes that are read.
    """

    stack: str
    frame: int | None
    plane: int | None
    frames: int
    planes: int

    @property
    def index(self) -> int:
        """Index of the image in the stack, frames outermost."""
        return ((self.frame or 1) - 1) * self.planes + (self.plane or 1) - 1

    @property
    def numbers(self) -> dict[str, int]:
        """Numbers of the frame and the plane, under the names of their columns in tables."""
        return {name: value for name, value in (("frame", self.frame), ("plane", self.plane)) if value is not None}

    @property
    def suffix(self) -> str:
        """Text that distinguishes the image from the others of its file, such as "_t02_z003"."""
        counts = {"frame": self.frames, "plane": self.planes}
        letters = {"frame": "t", "plane": "z"}
        return "".join(f"_{letters[name]}{n:0{len(str(counts[name]))}}" for name, n in self.numbers.items())


@dataclass(frozen=True)
class Planes:
    """Choice of what to read of files that hold more than one grey or colour image.

    Attributes:
        channel: Name or number (from 1 on) of a channel, or three of them for red, green and blue. None for files of
            one channel and for colour images.
        plane: Number of the plane of a z-stack, from 1 on; "all" for every plane as an image of its own.
        project: Projection of a z-stack instead of a plane: "max", or "mean" (rounded where samples are whole numbers).
        frame: Number of the frame of a time series, from 1 on; "all" for every frame as an image of its own.
        scene: Name or number (from 1 on) of one of several separate images in a file.
        learned: True if the channel is not the user's choice but the one that a model was trained on: a file of a
            single channel without a name is then read as it is.

    Raises:
        ValueError: A value has another type or range, or both a plane and a projection are asked for.
    """

    channel: str | int | Sequence[str | int] | None = None
    plane: int | Literal["all"] | None = None
    project: Literal["max", "mean"] | None = None
    frame: int | Literal["all"] | None = None
    scene: str | int | None = None
    learned: bool = False

    def __post_init__(self) -> None:
        wanted = self.wanted()
        if len(wanted) not in (0, 1, 3) or not all(isinstance(each, str) or _is_number(each) for each in wanted):
            raise ValueError(
                "channel must be a name or a number from 1 on, or three for red, green and blue; received "
                f"{self.channel!r}"
            )
        for name in ("plane", "frame"):
            value = getattr(self, name)
            if value is not None and not _is_number(value) and not (isinstance(value, str) and value == ALL):
                raise ValueError(f"{name} must be a whole number from 1 on or {ALL!r}; received {value!r}")
        if self.scene is not None and not isinstance(self.scene, str) and not _is_number(self.scene):
            raise ValueError(f"scene must be a name or a number from 1 on; received {self.scene!r}")
        if self.project not in (None, *PROJECTIONS):
            raise ValueError(f"project must be one of {', '.join(PROJECTIONS)}; received {self.project!r}")
        if self.plane is not None and self.project is not None:
            raise ValueError("either a plane or a projection of all planes can be read; received both")

    def with_default(self, own: Planes) -> Planes:
        """Returns the choice, with the channel that a model was trained on where none is chosen.

        Args:
            own: Choice of the model's channel.
        """
        return (
            self
            if own.channel is None or self.channel is not None
            else replace(self, channel=own.channel, learned=True)
        )

    def described(self) -> dict[str, object]:
        """Returns the choices by name, as JSON can hold them."""
        chosen = {name: value for name, value in vars(self).items() if name != "learned" and value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()}

    def wanted(self) -> tuple[str | int, ...]:
        """Returns the chosen channels as a tuple, empty if none is chosen."""
        if self.channel is None:
            return ()
        return tuple(self.channel) if isinstance(self.channel, list | tuple) else (self.channel,)

    @property
    def several(self) -> bool:
        """True if all planes or all frames are chosen, each as an image of its own."""
        return ALL in (self.plane, self.frame)

    def places(self, stack: str, frames: int, planes: int) -> list[Place]:
        """Lists the images that are chosen of one file, frames outermost.

        Args:
            stack: Name of the file's stack.
            frames: Number of frames of the file.
            planes: Number of planes of the file.
        """
        along = [range(1, n + 1) if choice == ALL else (None,) for choice, n in self._along(frames, planes)]
        counts = [n if choice == ALL else 1 for choice, n in self._along(frames, planes)]
        return [Place(stack, frame, plane, *counts) for frame in along[0] for plane in along[1]]

    def at(self, place: Place) -> Planes:
        """Returns the choice of one of the images that are chosen.

        Args:
            place: The image's place among them.
        """
        return replace(self, frame=place.frame or self.frame, plane=place.plane or self.plane)

    def _along(self, frames: int, planes: int) -> tuple[tuple[object, int], ...]:
        return (self.frame, frames), (self.plane, planes)

    def choose(self, frames: int, planes: int, channels: Sequence[str], colour: bool) -> Chosen:
        """Applies the choice to one file, of which one image is read.

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
        return Chosen(_in_range("frame", self.frame, frames), taken, self._channels(channels))

    def _channels(self, names: Sequence[str]) -> tuple[int, ...]:
        wanted = self.wanted()
        if not wanted or (self.learned and len(names) == 1 and not names[0]):
            return tuple(range(len(names)))
        try:
            return tuple(_find("channel", each, names) for each in wanted)
        except ImageFileError as error:
            if not self.learned:
                raise
            raise ImageFileError(
                f"{error}. The model was trained on channel {', '.join(map(str, wanted))}: choose the one that "
                "corresponds (--channel=NAME or N)"
            ) from None

    def choose_scene(self, names: Sequence[str], first: bool = False) -> int:
        """Returns the index of the chosen scene of one file.

        Args:
            names: Names of the scenes, "" for one without a name.
            first: True to take the first one without a choice.

        Raises:
            ImageFileError: The scene is not in the file, or none of several is chosen.
        """
        if self.scene is not None:
            return _find("scene", self.scene, names)
        if len(names) > 1 and not first:
            raise ImageFileError(f"holds {len(names)} separate images, {_list(names)} (choose one: --scene=NAME or N)")
        return 0

    def _require(self, frames: int, planes: int, channels: Sequence[str], colour: bool) -> None:
        open_ = []
        if frames > 1 and self.frame in (None, ALL):
            open_.append(f"{frames} frames (choose one: --frame=N, from 1 on)")
        if planes > 1 and self.plane in (None, ALL) and self.project is None:
            open_.append(f"{planes} planes (choose one: --plane=N, from 1 on, or --project=max or mean)")
        stack = bool(open_)
        if len(channels) > 1 and not colour and self.channel is None:
            open_.append(
                f"{len(channels)} channels that are no colours, {_list(channels)} (choose one: --channel=NAME or N; "
                "given three times, it chooses red, green and blue)"
            )
        if open_:
            raise ImageFileError(f"holds {'a stack: ' if stack else ''}{'; '.join(open_)}")


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


def _in_range(what: str, number: int | str | None, count: int) -> int:
    """Returns the index of a number from 1 on; that of the only one if there is no number."""
    if number in (None, ALL):
        return 0
    if number > count:
        raise ImageFileError(f"there is no {what} {number}; it has {count}")
    return number - 1


def _find(what: str, wanted: str | int, names: Sequence[str]) -> int:
    """Returns the index of a channel or a scene by its name or its number."""
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
            raise ImageFileError(f"{what} {text!r} can be several of {_list(names)}: choose by number, as #1")
    if number is None or not 0 <= number < len(names):
        raise ImageFileError(f"there is no {what} {text!r}; it has {_list(names)}")
    return number


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name or '(no name)'}" for number, name in enumerate(names, start=1))


# For files that need no choice.
NO_CHOICE = Planes()
# The first of everything, for what is the same in all planes, such as height and width.
FIRST = Planes(channel=1, plane=1, frame=1, scene=1)

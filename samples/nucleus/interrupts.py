"""Answers of the command line to Ctrl-C: one line and no traceback, at every moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Exit status of a program that Ctrl-C ended.
STATUS = 130
LINE = "nucleus: interrupted\n"


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Lets Ctrl-C end the process at once inside a block that writes nothing, such as an import.

    An exception that is raised in the middle of an import may be swallowed, or shown with a traceback. Outside of the
    command line, in a notebook for example, nothing changes.
    """
    if not interrupts.begun or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupts.leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Interrupts:
    """Answers to Ctrl-C.

    Attributes:
        begun: True while the command line runs.
        came: True once Ctrl-C was raised as an exception.
    """

    def __init__(self) -> None:
        self.begun = self.came = False
        self._stderr = 2

    def begin(self) -> None:
        """Takes over Ctrl-C, and remembers stderr, which an import may redirect."""
        self.begun = True
        self._stderr = os.dup(2)
        signal.signal(signal.SIGINT, self.throw)
        self._report, sys.unraisablehook = sys.unraisablehook, self.report

    def throw(self, *_: Any) -> None:
        """Raises KeyboardInterrupt, so that running work can finish what it is writing."""
        self.came = True
        raise KeyboardInterrupt

    def leave(self, *_: Any) -> None:
        """Ends the process."""
        os.write(self._stderr, LINE.encode())
        os._exit(STATUS)

    def report(self, unraisable: Any) -> None:
        """Raises an interruption again that came where nothing can be raised, such as in a destructor."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            self._report(unraisable)


interrupts = _Interrupts()

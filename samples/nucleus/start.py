"""Start of the command line, without large imports of its own, so that Ctrl-C is answered from the first moment on."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence

from nucleus.interrupts import LINE, STATUS, ending_at_once, interrupts


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; Ctrl-C ends it with one line on stderr and the status 130, at every moment.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        The exit status; see `nucleus.cli.main`.
    """
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if ignored or threading.current_thread() is not threading.main_thread():
        from nucleus.cli import main as run

        return run(argv)
    interrupts.begin()
    try:
        with ending_at_once():
            from nucleus.cli import main as run
        status = run(argv)
        return STATUS if interrupts.came else status
    except BaseException:
        if not interrupts.came:
            raise
        # Libraries turn an interruption into errors of their own.
        sys.stderr.write(LINE)
        return STATUS
    finally:
        sys.stdout.flush()
        signal.signal(signal.SIGINT, interrupts.leave)

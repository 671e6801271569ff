"""Report of inputs that failed."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def report_failures(failures: Sequence[str]) -> int:
    """Lists the inputs that failed on stderr; returns the exit status."""
    for failure in failures:
        print(f"nucleus: error: {failure}", file=sys.stderr)
    return 1 if failures else 0

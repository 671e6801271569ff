"""The command line: `nucleus train`, `detect`, `evaluate`, `tune`, `pack`, `convert` and `download`.

`nucleus.options` says what is parsed, `nucleus.commands` what is done.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from nucleus.options import make_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0 if all went well, 1 if something failed (named on stderr), 130 after Ctrl-C. Wrong usage ends with
        SystemExit(2).
    """
    args = make_parser().parse_args(argv)
    logging.basicConfig(format="nucleus: %(levelname)s: %(message)s")
    # It warns of a graph for every image size, which is how detection is meant to run.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from trainkit.download import DownloadError

    try:
        return args.command(args)
    except KeyboardInterrupt:
        print("nucleus: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, DownloadError) as error:
        if args.debug:
            raise
        print(f"nucleus: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

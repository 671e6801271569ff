"""Starts the nucleus command line: `python samples/nucleus/nucleus.py train --weights=coco`.

The folder of this script holds the package `nucleus`, whose modules must not be importable as top-level
modules; so the folder leaves the import path, and its parent and the repository's root join it.
"""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:] = [str(here.parents[1]), str(here.parent), *(p for p in sys.path if Path(p or ".").resolve() != here)]

if __name__ == "__main__":
    from nucleus.start import main

    sys.exit(main())

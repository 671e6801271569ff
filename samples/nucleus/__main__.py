"""Command line as a module: `python -m nucleus`."""

import sys

from nucleus.start import main

if __name__ == "__main__":
    sys.exit(main())

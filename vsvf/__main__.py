"""`python -m vsvf`: the command line."""

import sys

from vsvf.cli import main

if __name__ == "__main__":
    sys.exit(main())

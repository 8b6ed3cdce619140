"""Starts the command line: ``python -m process_cosmos_testbed``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

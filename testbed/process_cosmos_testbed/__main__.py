"""Starts the command line: ``python -m process_cosmos_testbed``."""

import sys

from .cli import main

sys.exit(main())

"""`python -m dragoman`: the command line."""

import sys

from dragoman.demos.cli import main

sys.exit(main())

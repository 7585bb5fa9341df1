"""`python -m ale_engine`: see README.md."""

import sys

from .server import main

sys.exit(main())

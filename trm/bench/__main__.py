"""``python -m trm.bench``."""

import sys

from trm.bench.command import main

sys.exit(main())

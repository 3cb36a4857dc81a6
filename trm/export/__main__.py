"""``python -m trm.export``."""

import sys

from trm.export.command import main

sys.exit(main())

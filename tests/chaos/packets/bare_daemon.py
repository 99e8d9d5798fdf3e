"""Be the daemon, with nothing changed but two things that a test needs.

Its node leaves some umbilicals to the test, and what fell is started again as fast as it falls.
"""

import sys
from typing import Final
from unittest.mock import patch

from spiral_host import daemon

_PACE: Final = 10_000.0

if __name__ == "__main__":
    with (
        patch("spiral_host.nodes._MODULE", "tests.chaos.packets.bare_node"),
        patch("spiral_host.pace.RATE", _PACE),
        patch("spiral_host.pace.BURST", _PACE),
    ):
        sys.exit(daemon.main())

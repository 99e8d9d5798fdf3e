"""Write what an operator should find in the node's own log, `logs/node.log`."""

import contextlib
import os
import time


def say(text: str) -> None:
    """Write a line, or several, with the time. A disk that is full must not end the node."""
    with contextlib.suppress(OSError):
        os.write(2, f"{time.time():.3f} {text.rstrip()}\n".encode(errors="backslashreplace"))

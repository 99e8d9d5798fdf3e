"""`python -m plugin_worker.sandbox`: try every layer here, and print as JSON what came of it."""

import json
import os
import platform
import sys

from plugin_worker.sandbox.landlock import abi
from plugin_worker.sandbox.policy import LAYER_NAMES
from plugin_worker.sandbox.probe import probe


def main() -> None:
    """Print what `spiral-host doctor` shows."""
    found = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "user": os.geteuid(),
        "landlock_abi": abi(),
        "layers": probe(LAYER_NAMES),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

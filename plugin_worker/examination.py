"""`python -m plugin_worker.examination`: try every layer, and print what came of it."""

import json
import os
import platform
import sys

from plugin_worker.node.cgroups import Cgroups
from plugin_worker.sandbox.landlock import abi
from plugin_worker.sandbox.policy import LAYER_NAMES
from plugin_worker.sandbox.probe import probe
from protocol import line


def main() -> None:
    """Print what `spiral-host doctor` shows."""
    groups = Cgroups.of_this_machine()
    found = {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "user": os.geteuid(),
        "is_compiled": not line.__file__.endswith(".py"),  # all that a call passes, or nothing
        "landlock_abi": abi(),
        "groups": groups.available,
        "no_groups": groups.why,
        "layers": probe(LAYER_NAMES),
    }
    groups.close()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

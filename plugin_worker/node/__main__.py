"""`python -m plugin_worker.node RUN_DIR NAME SANDBOX MODE ALONE_S [OWNER_FD]`, for a daemon."""

import sys

from plugin_worker.node.node import main

if __name__ == "__main__":
    if len(sys.argv) not in {6, 7}:
        sys.exit("this is a part of spiral-host and is started by its daemon: spiral-host start")
    sys.exit(main(sys.argv[1:]))

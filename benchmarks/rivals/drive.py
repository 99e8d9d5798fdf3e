"""One rival's caller, in a process of its own: `python -m benchmarks.rivals.drive MODULE`.

It says what it can do, then does and times what it is told, line by line:

    -> ready add pipeline array     or     missing PACKAGE
    <- add 500
    -> 0.0147                       seconds for all 500
"""

import sys
import time
from types import ModuleType
from typing import IO, Any

from benchmarks.rivals.roster import Row


def main(name: str) -> None:
    """Work until the pipe that brings the orders ends."""
    # What a library prints must not be taken for a figure.
    replies, sys.stdout = sys.stdout, sys.stderr
    try:
        rival = __import__(name, fromlist=["works"])
    except ModuleNotFoundError as error:
        _say(replies, f"missing {error.name}")
        return
    _work(rival, replies)


def _work(rival: ModuleType, replies: IO[Any]) -> None:
    with rival.works() as works:
        _say(replies, " ".join(["ready", *works]))
        for order in sys.stdin:
            row, count = order.split()
            work, number = works[Row(row)], int(count)
            begin = time.perf_counter()
            work(number)
            _say(replies, repr(time.perf_counter() - begin))


def _say(replies: IO[Any], line: str) -> None:
    print(line, file=replies, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])

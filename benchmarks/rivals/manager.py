"""A proxy of `multiprocessing.managers`: pickles over a unix socket.

The server is a process of its own, as the documentation shows for managers that others started;
a manager that starts its own server has the same one.
"""

import contextlib
import sys
from collections.abc import Iterator
from multiprocessing.managers import BaseManager
from typing import Any, Final

from benchmarks.rivals.roster import ADD, ARRAY, Row
from benchmarks.rivals.servers import say_ready, serving_at_path
from benchmarks.rivals.work import ENDS, SUM, Arithmetic, Work, new_array, one_by_one

_KEY: Final = b"benchmark"


class _Manager(BaseManager):
    """Offers `Arithmetic`."""


_Manager.register("Arithmetic", Arithmetic)


def serve(path: str) -> None:
    """Answer until killed."""
    server = _Manager(path, _KEY).get_server()
    say_ready()
    server.serve_forever()


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    with serving_at_path(__spec__.name) as path:
        manager: Any = _Manager(path, _KEY)
        manager.connect()
        adder = manager.Arithmetic()
        yield {
            ADD: one_by_one(SUM, adder.add, 1, 2),
            ARRAY: one_by_one(ENDS, adder.ends, new_array()),
        }
        del adder  # it says goodbye, so the server must still be there


if __name__ == "__main__":
    serve(*sys.argv[1:])

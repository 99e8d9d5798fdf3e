"""A bare pipe of `multiprocessing`, which pickles: for arrays only."""

import contextlib
from collections.abc import Iterator
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from benchmarks.rivals.roster import ARRAY, Row
from benchmarks.rivals.work import ENDS, Arithmetic, Work, new_array, one_by_one

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def _answer(pipe: "Connection[Any, Any]") -> None:
    adder = Arithmetic()
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(adder.ends(pipe.recv()))


@contextlib.contextmanager
def works() -> Iterator[dict[Row, Work]]:
    """Have it ready to work."""
    context, array = get_context("spawn"), new_array()
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs,), daemon=True)
    process.start()
    theirs.close()

    def exchange() -> object:
        ours.send(array)
        return ours.recv()

    with ours:
        yield {ARRAY: one_by_one(ENDS, exchange)}
    process.join()

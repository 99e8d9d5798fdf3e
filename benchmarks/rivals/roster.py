"""Who takes part in which rows of the comparison, and how each does that row's work."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NewType

Row = NewType("Row", str)
"""A row of the comparison: one kind of work."""

ADD: Final = Row("add")
"""One `add(1, 2)` after the other."""
PIPELINE: Final = Row("pipeline")
"""The same with `DEPTH` of them in flight: all are made, then their results are taken."""
ARRAY: Final = Row("array")
"""One array of `ELEMENTS` after the other; the sum of its first and last comes back."""
ASYNC: Final = Row("async")
"""One `add(1, 2)` of an `async def` after the other."""
CALLBACK: Final = Row("callback")
"""A call with a function of the caller's, which the callee calls once."""
STREAM: Final = Row("stream")
"""Small integers from one generator of the callee's."""
EVENT: Final = Row("event")
"""A built-in event, from `publish` to one callback."""

DEPTH: Final = 100
"""More gains nobody anything, on one core."""
ELEMENTS: Final = 8_000_000
"""64 MB of float64."""


class Kind(Enum):
    """What somebody who takes part is to us."""

    BOUND = "moves the bytes and makes no calls: nothing that makes calls can be faster"
    CARRIER = "carries bytes or objects, and leaves it to its users to make calls of them"
    LIBRARY = "makes calls, as ours does: we want to be faster"


@dataclass(frozen=True, slots=True)
class Entry:
    """One who takes part.

    Attributes:
        module: The module here that knows how.
        rows: What it can do, and how, where it has a choice.
        unlike: Where that is not quite the same work: what it does without.
    """

    module: str
    title: str
    kind: Kind
    rows: Mapping[Row, str]
    unlike: Mapping[Row, str] = field(default_factory=dict)

    def named(self, row: Row) -> str:
        """Give its title as it stands in a row."""
        return ", ".join(filter(None, (self.title, self.rows[row])))


ROSTER: Final = (
    Entry("echo", "bare socketpair echo", Kind.BOUND, {ADD: ""}),
    Entry("memcpy", "one memcpy", Kind.BOUND, {ARRAY: ""}),
    Entry("zeromq", "ZeroMQ", Kind.CARRIER, {ADD: "echo", PIPELINE: "echo", ARRAY: "copy=False"}),
    Entry("pipe", "multiprocessing pipe", Kind.CARRIER, {ARRAY: "pickle"}),
    Entry("manager", "multiprocessing.Manager", Kind.LIBRARY, {ADD: "", ARRAY: "pickle"}),
    Entry(
        "pool",
        "ProcessPoolExecutor",
        Kind.LIBRARY,
        {ADD: "", PIPELINE: "submit()", ARRAY: "pickle"},
    ),
    Entry(
        "pyro",
        "Pyro5 msgpack",
        Kind.LIBRARY,
        {ADD: "", PIPELINE: "batches", ARRAY: "bytes", STREAM: "item by item"},
        {
            PIPELINE: f"one message with {DEPTH} calls that are all known before, and one with all"
            " their results: none is there before the last; it has nothing else for many in flight"
        },
    ),
    Entry(
        "rpyc_pair",
        "RPyC",
        Kind.LIBRARY,
        {ADD: "", PIPELINE: "async_()", ARRAY: "bytes", CALLBACK: "", STREAM: "buffiter()"},
        {
            STREAM: "up to 1,000 items in a message: none is there before the generator has given"
            " the last of them"
        },
    ),
    Entry(
        "grpcio",
        "grpcio",
        Kind.LIBRARY,
        {ADD: "", PIPELINE: "future()", ARRAY: "bytes", STREAM: "unary-stream"},
    ),
    Entry(
        "grpcio_asyncio",
        "grpcio asyncio",
        Kind.LIBRARY,
        {ADD: "", PIPELINE: "gather()", ASYNC: ""},
    ),
    Entry(
        "spiral_bus",
        "SpiralTorch's own bus",
        Kind.CARRIER,
        {EVENT: ""},
        {EVENT: "in one process: publish() calls the callback, and nothing travels"},
    ),
)

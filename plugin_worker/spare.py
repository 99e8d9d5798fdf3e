"""A process that the zygote has forked in advance, to be the next worker.

A forked process shares its parent's memory until it writes to it, and each page that it writes to
costs it 3 us: a worker writes to 1,000 before it says hello. A spare has been through that when the
order comes. It has the zygote's own rights until then, and runs nothing but the zygote's own code;
it is confined as every other worker is, once it is told which one it is.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spare:
    """A spare as the zygote holds it. It leaves by itself when the zygote does."""

    pid: int
    ears: socket.socket

    def hear(self, packet: bytes, descriptors: Sequence[int] = ()) -> bool:
        """Have it obey what the node has said; say whether it is there to do so."""
        try:
            socket.send_fds(self.ears, [packet], descriptors)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Tell it no more."""
        self.ears.close()

"""What an application's own code is run for: event callbacks, and calls of its services.

In a thread apart from the connection's, so that a callback may use the host like any other code.
"""

from collections.abc import Callable

from protocol.crew import ServingThread
from protocol.flight import UNCOUNTED
from protocol.line import Home
from protocol.messages import LaneOpened
from protocol.servant import Servant


class Attendant:
    """Runs user code for one connection.

    Args:
        home: The connection.
        lane_closed: Called with the number of a lane whose caller is gone.
    """

    def __init__(self, home: Home, lane_closed: Callable[[int], object]) -> None:
        self.servant = Servant(UNCOUNTED)
        self._thread = ServingThread("spiral-host callbacks", self.servant, home, lane_closed)

    @property
    def is_current(self) -> bool:
        """Whether this very thread asks."""
        return self._thread.is_current

    def do(self, job: Callable[[], None]) -> None:
        """Run a callback, after what it is doing."""
        self._thread.do(job)

    def do_meanwhile(self, job: Callable[[], bool]) -> None:
        """Do this whenever a callback waits for a call; it says whether there was anything."""
        self._thread.do_meanwhile(job)

    def serve(self, opened: LaneOpened, fd: int) -> None:
        """Serve the calls that come on a lane."""
        self._thread.serve(opened, fd)

    def wake(self) -> None:
        """Have it look at what it waits for again."""
        self._thread.wake()

    def close(self) -> None:
        """Stop, after what is running."""
        self._thread.close()
